"""export_sim: write a QuantizationSimModel through fxquant's own converter and exporter."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

import fxquant.quantsim
from fxquant.calibration import Signature
from fxquant.errors import ExportError, NotCalibratedError, first_line
from fxquant.export import export_files
from fxquant.export.encodings import encodings_json
from fxquant.export.files import put_json
from fxquant.files.atomic import atomic_files
from fxquant.graph import ModelRecord, Report, Stage, get_record, set_record
from fxquant.nn import QuantizationMixin
from fxquant.nn.by_call import QuantizedByCall
from fxquant.ops import op_of_module
from fxquant.passes import parse
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.float import FloatQuantizeDequantize
from fxquant.quantsim.encodings_file import sim_encodings

if TYPE_CHECKING:
    from fxquant.quantsim.sim_model import QuantizationSimModel

_PIPELINE = "hoist-quantizers"
_FREEZE = "freeze-encodings"
_TARGET = "generic"


def export_sim(
    sim: "QuantizationSimModel", path: Path, prefix: str, dummy_input: Any, export_model: bool = True
) -> None:
    """Write the files of a simulation into a folder.

    ``<prefix>.onnx`` is the model with QuantizeLinear and DequantizeLinear; a weight that these cannot say,
    such as one in blocks along two axes, is written as real values. ``<prefix>.encodings`` holds the
    encodings by tensor of that file, in the format ``fxquant.quantsim.encoding_version``;
    ``<prefix>_torch.encodings`` those by module; ``<prefix>.pth`` the model without quantizers, as a pickle.
    All of them are written, or none.

    Raises:
        NotCalibratedError: If the weight of a layer has no range, or no activation has one.
        ExportError: If the model cannot be written.
    """
    example = Signature(sim.model).call(dummy_input)
    prepared, by_module = prepared_graph(sim), sim_encodings(sim)
    version = fxquant.quantsim.encoding_version  # users set it there
    by_tensor = encodings_json(  # before freezing: it forgets groups of blocks
        prepared, version, sim.quant_args, sim.excluded_layers, int32_biases=True
    )
    torch_encodings = f"{prefix}_torch.encodings"
    if export_model:
        original = sim.get_original_model()
        beside: dict[str, Callable[[Path], None]] = {
            f"{prefix}.pth": lambda file: put_pickle(original, file),
            torch_encodings: lambda file: put_json(by_module, file),
        }
        export_files(_frozen(prepared), path / f"{prefix}.onnx", example, by_tensor, beside)
        return
    with atomic_files(path) as files:
        put_json(by_tensor, files.path(f"{prefix}.encodings"))
        put_json(by_module, files.path(torch_encodings))


def put_pickle(value: object, path: Path) -> None:
    """Write an object as a pickle.

    Raises:
        ExportError: If it cannot be written.
    """
    try:
        torch.save(value, path)
    except RuntimeError as error:  # which torch also raises where the disk is full
        raise ExportError(
            f"'{path.name}' cannot be written: {first_line(error)}.", remedy="See whether the disk is full."
        ) from error


def prepared_graph(sim: "QuantizationSimModel") -> fx.GraphModule:
    """Return a copy of a simulation as a prepared model, which ``fxquant.convert`` takes.

    Quantizers of activations that no data reached, such as those at integers, are left out.

    Raises:
        NotCalibratedError: If the quantizer of a parameter has no range, or no quantizer of an activation.
    """
    _check_is_calibrated(sim)
    gm, report = copy.deepcopy(sim.model), Report(list(sim.report.sites))
    for module in gm.modules():
        if isinstance(module, QuantizationMixin):
            _unfold(module)
    pipeline = parse(_PIPELINE)
    pipeline.run(gm, report, None)
    set_record(gm, ModelRecord(stage=Stage.PREPARED, target=_TARGET, pipeline=str(pipeline), report=report))
    return gm


def _frozen(gm: fx.GraphModule) -> fx.GraphModule:
    """Freeze a prepared model in place, without widening a range as ``fxquant.convert`` may."""
    record = get_record(gm, Stage.PREPARED)
    for module in gm.modules():
        if isinstance(module, QuantizedByCall) or (
            isinstance(module, QuantizationMixin) and op_of_module(module) is None
        ):
            _fold(module)
    parse(_FREEZE).run(gm, record.report, None)
    set_record(gm, replace(record, stage=Stage.QUANTIZED))
    return gm


def _check_is_calibrated(sim: "QuantizationSimModel") -> None:
    remedy = "Call sim.compute_encodings(...) before exporting."
    activations: list[Any] = []
    for name, module in sim.named_qmodules():
        activations += [*module.input_quantizers, *module.output_quantizers]
        for parameter, quantizer in module.param_quantizers.items():
            value: Any = quantizer
            if value is not None and getattr(module, parameter) is not None and not value.is_initialized():
                raise NotCalibratedError(
                    f"The quantizer of '{parameter}' has no range.", layer=name, remedy=remedy
                )
    ready = [quantizer.is_initialized() for quantizer in activations if quantizer is not None]
    if ready and not any(ready):
        raise NotCalibratedError("No quantizer of an activation has a range.", remedy=remedy)


def _unfold(module: QuantizationMixin) -> None:
    """Give parameters that ``fold_param_quantizers`` put on their grids the quantizers they had."""
    quantizers: Any = module.param_quantizers
    for name, quantizer in quantizers.items():
        encoding: Any = getattr(getattr(module, name), "encoding", None)
        if quantizer is None and encoding is not None:
            value = getattr(module, name).detach().as_subclass(torch.Tensor)
            setattr(module, name, torch.nn.Parameter(value))
            quantizers[name] = _class_of(encoding).from_encodings(encoding)


def _fold(module: QuantizationMixin) -> None:
    """Write real values into parameters that a function of torch reads, such as those of an LSTM."""
    quantizers: Any = module.param_quantizers
    for name in quantizers:
        value = None if quantizers[name] is None else module.quantized_parameter(name)
        if value is not None:
            setattr(module, name, torch.nn.Parameter(value.detach().as_subclass(torch.Tensor)))
        quantizers[name] = None


def _class_of(encoding: object) -> Any:
    if isinstance(encoding, GroupedBlockEncoding):
        return GroupedBlockQuantizeDequantize
    return QuantizeDequantize if isinstance(encoding, AffineEncoding) else FloatQuantizeDequantize
