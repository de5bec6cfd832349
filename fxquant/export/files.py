"""export_files: write the ONNX file and the encodings JSON, and read them back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx

from fxquant.errors import ExportError
from fxquant.export.encodings import encodings_json
from fxquant.export.onnx_file import to_onnx
from fxquant.export.write_onnx import write_onnx
from fxquant.files.atomic import atomic_files, write_atomically
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
    gm: fx.GraphModule,
    path: Path,
    example: Example | None,
    encodings: dict[str, Any] | None = None,
    beside: Mapping[str, Callable[[Path], None]] | None = None,
    opset: int | None = None,
    has_quantizers: bool = True,
    external_data: bool | None = None,
    float_type: torch.dtype = torch.float32,
    keeps_io: bool = True,
) -> ExportedFiles:
    """Write a quantized model's ONNX file and encodings, both or none.

    Args:
        gm: The quantized model.
        path: A folder, or a file name ending in ".onnx".
        example: A call to trace; None if none is known.
        encodings: Document to write; by default the encodings of gm in version 1.0.0.
        beside: More files to write with them: by name, what writes one at a path.
        opset: Opset of the file; None for the lowest that says it all.
        has_quantizers: Whether the model has QuantizeLinear and DequantizeLinear; if not, it is a float model
            whose weights are on their grids, and whose tensors have the names of the encodings.
        external_data: Whether weights are in a file of their own; None for when they do not fit into one.
        float_type: Type of what is not quantized: torch.float32 or torch.float16.
        keeps_io: Whether inputs and outputs stay float32 in any case.

    Raises:
        ExportError: If there is nothing to trace with, or the file cannot be made, written or read back.
    """
    if example is None:
        raise ExportError("There are no inputs to trace the model with.", remedy="Pass example_inputs.")
    target = path if path.suffix == ".onnx" else path / "model.onnx"
    files = ExportedFiles(onnx=target, encodings=target.with_suffix(".encodings"))
    record, gm = get_record(gm, Stage.QUANTIZED), original_calls(gm)
    document = encodings_json(gm) if encodings is None else encodings
    model = to_onnx(
        gm,
        example,
        record,
        opset=opset,
        has_quantizers=has_quantizers,
        float_type=float_type,
        keeps_io=keeps_io,
    )
    with atomic_files(target.parent) as written:
        write_onnx(model, written, files.onnx.name, external_data)
        put_json(document, written.path(files.encodings.name))
        for name, write in (beside or {}).items():
            write(written.path(name))
    return files


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document whole or not at all, and read it back.

    Raises:
        ExportError: If it cannot be written.
    """
    write_atomically(path, lambda temporary: put_json(document, temporary))


def put_json(document: dict[str, Any], path: Path) -> None:
    """Write a document, and read it back.

    Raises:
        ExportError: If it reads back as something else.
    """
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if json.loads(path.read_text(encoding="utf-8")) != document:
        raise ExportError(f"'{path.name}' does not read back as it was written.")
