"""Encodings by module, as AIMET's ``<prefix>_torch.encodings``: written, read and loaded into a simulation.

The document holds, by name of the module, the encodings of its inputs and outputs by index and, by name,
those of parameters: entries of version 0.6.1.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxquant.errors import OptionError, QuantizerError
from fxquant.nn.module_encodings import import_into

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

    Raises:
        OptionError: If there is no such file, or it holds something else.
        QuantizerError: If an encoding has no quantizer and ``strict`` is set.
    """
    document = _read(encodings)
    activations: Mapping[str, Any] = document.get("activation_encodings", {})
    parameters: Mapping[str, Any] = document.get("param_encodings", document if only_parameters else {})
    modules = dict(sim.named_qmodules())
    owners = {name.rpartition(".")[0] for name in parameters} | (
        set() if only_parameters else activations.keys()
    )
    unknown = sorted(owners - modules.keys())
    if unknown and strict:
        raise QuantizerError(
            f"The simulation has no quantized module '{unknown[0]}' that the encodings are for.",
            remedy="Load encodings of this model, or pass strict=False.",
        )
    how = (strict, partial, requires_grad, allow_overwrite)
    for name, module in modules.items():
        own = {p: parameters.get(f"{name}.{p}") for p in module.param_quantizers}
        import_into(module.param_quantizers, f"encoding for parameter of '{name}'", own, *how)
        if not only_parameters:
            given = activations.get(name, {})
            for side, quantizers in (
                ("input", module.input_quantizers),
                ("output", module.output_quantizers),
            ):
                import_into(quantizers, f"{side} encoding of '{name}' at index", given.get(side, {}), *how)


def _read(encodings: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(encodings, Mapping):
        return encodings
    try:
        document = json.loads(Path(encodings).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"'{encodings}' cannot be read as encodings: {error}.") from error
    if not isinstance(document, Mapping):
        raise OptionError(f"'{encodings}' holds no encodings.")
    return document


def _single(entry: Any) -> Any:
    """Return the entry of an activation, which has one range."""
    return entry[0] if isinstance(entry, list) and len(entry) == 1 else entry
