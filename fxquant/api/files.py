"""The verbs about files: export, verify, lint."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import fx

from fxquant.analysis import ParityReport, compare
from fxquant.calibration import Signature
from fxquant.export import ExportedFiles, encodings_json, export_files
from fxquant.graph import Stage, get_record
from fxquant.graph.kernel_calls import original_calls
from fxquant.lint import LintReport, lint_model


def export(
    quantized: fx.GraphModule,
    path: str | Path,
    example_inputs: object = None,
    encodings_version: str | None = None,
    *,
    opset: int | None = None,
    has_quantizers: bool = True,
    external_data: bool | None = None,
    float_type: torch.dtype = torch.float32,
    keeps_io: bool = True,
) -> ExportedFiles:
    """Write a quantized model as ONNX and its encodings as JSON, both whole or neither.

    Args:
        quantized: What ``convert`` returned.
        path: A folder, for model.onnx and model.encodings in it, or a file name ending in ".onnx".
        example_inputs: Inputs to trace with; None for the first calibration batch. Their first dimension
            becomes dynamic in the file, unless the target wants fixed sizes.
        encodings_version: Format of the encodings: "0.6.1", "1.0.0", "2.0.0" or "2.1.0"; None for 1.0.0, or
            2.0.0 where there are float types of 8 bits, which 1.0.0 has no words for.
        opset: Opset of the ONNX file; None for the lowest that says what the model has: 18, and 21 for types
            other than 8 bits and for weights in blocks.
        has_quantizers: Whether the ONNX file has QuantizeLinear and DequantizeLinear. False for tools that
            take a float model beside the encodings: its weights are on their grids, and its tensors have the
            names that the encodings have.
        external_data: Whether weights are written to a file of their own, which is named by its contents;
            None for when the file would exceed the 2 GB that ONNX allows.

        float_type: Type of what is not quantized: torch.float32, or torch.float16, which the scales of the
            quantizers then have too. TensorRT obeys the types in the file.
        keeps_io: Whether inputs and outputs stay float32 in a float16 file.

    Returns:
        The paths written: ``files.onnx`` and ``files.encodings``.

    Raises:
        ModelTypeError: If it is not a quantized model.
        OptionError: If there is no such format of encodings.
        ExportError: If there are no inputs to trace with, or the model cannot be written.
    """
    record = get_record(quantized, Stage.QUANTIZED)
    example = record.example if example_inputs is None else Signature(quantized).call(example_inputs)
    return export_files(
        quantized,
        Path(path),
        example,
        encodings_json(original_calls(quantized), encodings_version),
        opset=opset,
        has_quantizers=has_quantizers,
        external_data=external_data,
        float_type=float_type,
        keeps_io=keeps_io,
    )


def verify(
    quantized: fx.GraphModule,
    files: ExportedFiles | str | Path,
    batches: object,
    runtime: str = "onnxruntime",
    allowed_steps: int = 1,
    **options: object,
) -> ParityReport:
    """Run exported files in a runtime and compare them with the simulation, in quantization steps.

    ``report.first_departure`` names the first op, with its layer, that is off by more than ``allowed_steps``
    when it is fed the runtime's own inputs. ``report.fallbacks`` and ``report.float_islands`` name what the
    runtime did not take, and what it ran in floating point though it is quantized in the file.

    Args:
        quantized: The model that was exported.
        files: What ``export`` returned, or the path of the ONNX file.
        batches: Data, as for ``calibrate``. A file of fixed sizes takes batches of its own size only.
        runtime: "onnxruntime", "onnxruntime-exact" (without graph optimizations), "htp" (Qualcomm's, or its
            simulator) or "openvino".
        allowed_steps: By how many steps an op may be off before it is a departure.
        options: Options of the runtime: ``soc="sm8650"`` and ``allows_fallback=True`` of "htp".

    Raises:
        ModelTypeError: If it is not a quantized model.
        BatchError: If there is no batch, or one does not fit the model.
        OptionError: If there is no such runtime, or it has no such option.
        MissingExtraError: If the runtime is not installed; says how to.
        RefusalError: If the runtime refuses the file.
    """
    get_record(quantized, Stage.QUANTIZED)
    path = files.onnx if isinstance(files, ExportedFiles) else Path(files)
    return compare(quantized, path, batches, runtime, allowed_steps, **options)


def lint(
    model: object,
    target: str = "tensorrt",
    *,
    ignore: Iterable[str] = (),
    fix: str | Path | None = None,
) -> LintReport:
    """Check a quantized ONNX file, fxquant's or another's, against the rules of a target (docs/lint.md).

    The file is read, not run, and weights in files of their own stay there.

    Args:
        model: A path, what ``export`` returned, an onnx.ModelProto or an onnx_ir.Model; it is not modified.
        target: "tensorrt" or "qualcomm".
        ignore: Ids of rules not to check, such as "P12".
        fix: Where to write the model after every exact fix; None to only look.

    Raises:
        OptionError: If the target or a rule to ignore does not exist.
        ModelTypeError: If it is no model.
        ModelFileError: If the file cannot be read as one.
        ExportError: If the repaired model cannot be written.
    """
    source = model.onnx if isinstance(model, ExportedFiles) else model
    return lint_model(source, target, ignore=ignore, fix=None if fix is None else Path(fix))
