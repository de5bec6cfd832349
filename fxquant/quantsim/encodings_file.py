"""Encodings by module, as AIMET's ``<prefix>_torch.encodings``: written, read and loaded into a simulation.

The document holds, by name of the module, the encodings of its inputs and outputs by index and, by name,
those of parameters: entries of version 0.6.1.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxquant.errors import EncodingsError, QuantizerError
from fxquant.export.entry_forms import range_complaint
from fxquant.export.read_encodings import read_document
from fxquant.nn.module_encodings import import_into
from fxquant.quantsim.config import SimConfig
from fxquant.quantsim.placement import Defaults
from fxquant.quantsim.schemes import QuantScheme

if TYPE_CHECKING:
    from fxquant.quantsim.sim_model import QuantizationSimModel

_VERSION = "0.6.1"


def sim_encodings(sim: "QuantizationSimModel") -> dict[str, Any]:
    """Return the encodings of a simulation as a document."""
    activations: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, module in sim.named_qmodules():
        sides = {
            "input": module.export_input_encodings(_VERSION),
            "output": module.export_output_encodings(_VERSION),
        }
        found = {
            side: {str(index): _single(entry) for index, entry in enumerate(entries) if entry is not None}
            for side, entries in sides.items()
        }
        if any(found.values()):
            activations[name] = {side: entries for side, entries in found.items() if entries}
        for parameter, entry in module.export_param_encodings(_VERSION).items():
            if entry is not None:
                parameters[f"{name}.{parameter}"] = entry
    return {
        "version": _VERSION,
        "activation_encodings": activations,
        "param_encodings": parameters,
        "excluded_layers": sim.excluded_layers,
    }


def quantizer_args(scheme: QuantScheme, config: SimConfig, defaults: Defaults) -> dict[str, Any]:
    """Return what the quantizers of a simulation are by default, as encodings files say it.

    Weights count as per channel where those of any op are.
    """
    ops = (config.ops, *config.op_types.values())
    per_channel = any(op.per_channel_quantization for op in ops)
    symmetric = config.params.is_symmetric
    return {
        "quant_scheme": scheme.name,
        "param_bitwidth": defaults.param_bits,
        "activation_bitwidth": defaults.output_bits,
        "dtype": defaults.data_type.name,
        "is_symmetric": per_channel if symmetric is None else symmetric,
        "per_channel_quantization": per_channel,
    }


def load_into(
    sim: "QuantizationSimModel",
    encodings: Mapping[str, Any] | str | Path,
    strict: bool,
    partial: bool,
    requires_grad: bool | None,
    allow_overwrite: bool | None,
    only_parameters: bool = False,
) -> None:
    """Set the ranges of a simulation's quantizers; see ``QuantizationSimModel.load_encodings``.

    All of it is tried on copies of the quantizers first: an error leaves the simulation as it was.

    Raises:
        EncodingsError: If there is no such file, it holds something else, or an entry is not sound.
        QuantizerError: If an encoding has no quantizer and ``strict`` is set.
    """
    path = None if isinstance(encodings, Mapping) else Path(encodings)
    document = encodings if isinstance(encodings, Mapping) else read_document(Path(encodings))
    activations: Any = {} if only_parameters else document.get("activation_encodings", {})
    parameters: Any = document.get("param_encodings", document if only_parameters else {})
    _check_entries(path, activations, parameters)
    modules = dict(sim.named_qmodules())
    owners = {name.rpartition(".")[0] for name in parameters} | activations.keys()
    unknown = sorted(owners - modules.keys())
    if unknown and strict:
        raise QuantizerError(
            f"The simulation has no quantized module '{unknown[0]}' that the encodings are for.",
            remedy="Load encodings of this model, or pass strict=False.",
        )
    how = (strict, partial, requires_grad, allow_overwrite)
    for held in (copy.deepcopy, _themselves):
        for name, module in modules.items():
            own = {p: parameters.get(f"{name}.{p}") for p in module.param_quantizers}
            import_into(held(module.param_quantizers), f"encoding for parameter of '{name}'", own, *how)
            if only_parameters:
                continue
            given = activations.get(name, {})
            sides = {"input": module.input_quantizers, "output": module.output_quantizers}
            for side, quantizers in sides.items():
                what = f"{side} encoding of '{name}' at index"
                import_into(held(quantizers), what, given.get(side, {}), *how)


def _themselves(quantizers: Any) -> Any:
    return quantizers


def _check_entries(path: Path | None, activations: object, parameters: object) -> None:
    """Check the entries of a document by module.

    Raises:
        EncodingsError: If one is not sound; names the module or parameter.
    """
    found = _complaint(activations, parameters)
    if found is not None:
        where = "The encodings" if path is None else f"The encodings file '{path}'"
        raise EncodingsError(
            f"{where} cannot be used: {found}.",
            remedy="Write them with QuantizationSimModel.save_encodings_to_json, or mend them there.",
        )


def _complaint(activations: object, parameters: object) -> str | None:
    if not isinstance(activations, Mapping) or not isinstance(parameters, Mapping):
        return "its sections are lists, and encodings by module are objects"
    entries = {f"parameter '{name}'": entry for name, entry in parameters.items()}
    for module, sides in activations.items():
        if not isinstance(sides, Mapping) or not all(isinstance(side, Mapping) for side in sides.values()):
            return f"the entry of '{module}' is no object of inputs and outputs; tensors are not modules"
        for side, numbered in sides.items():
            entries |= {f"{side} {index} of '{module}'": entry for index, entry in numbered.items()}
    for what, entry in entries.items():
        found = next(filter(None, map(range_complaint, entry if isinstance(entry, list) else [entry])), None)
        if found is not None or entry == []:
            return f"the entry of {what} is not sound: {found or 'it is empty'}"
    return None


def _single(entry: Any) -> Any:
    """Return the entry of an activation, which has one range."""
    return entry[0] if isinstance(entry, list) and len(entry) == 1 else entry
