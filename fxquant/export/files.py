"""export_files: write the ONNX file and the encodings JSON, and read them back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import fx

from fxquant.errors import ExportError
from fxquant.export.atomic import write_atomically
from fxquant.export.encodings import encodings_json
from fxquant.export.onnx_file import PRODUCER, to_onnx
from fxquant.graph import Example, Stage, get_record
from fxquant.graph.kernel_calls import original_calls


@dataclass(frozen=True, kw_only=True)
class ExportedFiles:
    """Where the exported files are.

    Attributes:
        onnx: The QDQ ONNX model.
        encodings: The encodings JSON.
    """

    onnx: Path
    encodings: Path


def export_files(
    gm: fx.GraphModule, path: Path, example: Example | None, encodings: dict[str, Any] | None = None
) -> ExportedFiles:
    """Write a quantized model's ONNX file and encodings.

    Args:
        gm: The quantized model.
        path: A folder, or a file name ending in ".onnx".
        example: A call to trace; None if none is known.
        encodings: Document to write; by default the encodings of gm in version 1.0.0.

    Raises:
        ExportError: If there is nothing to trace with, or the file cannot be made, written or read back.
    """
    if example is None:
        raise ExportError("There are no inputs to trace the model with.", remedy="Pass example_inputs.")
    target = path if path.suffix == ".onnx" else path / "model.onnx"
    files = ExportedFiles(onnx=target, encodings=target.with_suffix(".encodings"))
    record, gm = get_record(gm, Stage.QUANTIZED), original_calls(gm)
    document = encodings_json(gm, PRODUCER) if encodings is None else encodings
    model = to_onnx(gm, example, record)
    write_atomically(files.onnx, lambda temporary: _write_onnx(model, temporary))
    write_json(document, files.encodings)
    return files


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document whole or not at all, and read it back.

    Raises:
        ExportError: If it cannot be written.
    """
    write_atomically(path, lambda temporary: _write_json(document, temporary))


def _write_onnx(model: ir.Model, path: Path) -> None:
    try:
        proto = ir.to_proto(model)
    except Exception as error:  # onnx_ir has no common error for a constant without a form in ONNX
        raise ExportError(f"The exported graph has no form in ONNX: {error}.") from error
    del proto.graph.value_info[:]  # shapes of inner tensors follow from the graph
    onnx.save_model(proto, str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported model is not valid ONNX: {error}") from error


def _write_json(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if json.loads(path.read_text(encoding="utf-8")) != document:
        raise ExportError(f"'{path}' does not read back as it was written.")
