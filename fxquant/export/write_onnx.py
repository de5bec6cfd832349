"""write_onnx: an ONNX model into a folder of files that take their places together, and read back."""

from pathlib import Path

import onnx
import onnx_ir as ir

from fxquant.errors import ExportError
from fxquant.files.atomic import AtomicFiles

_EXTERNAL_FROM = 3 * 2**29  # bytes: a protocol buffer holds 2^31, and the graph needs some
_INLINE_UP_TO = 1024  # bytes: smaller constants, such as scales, stay in the graph


def write_onnx(model: ir.Model, files: AtomicFiles, name: str, external_data: bool | None = None) -> None:
    """Write a model; codes and weights go from where they are to the file, without a copy of all of them.

    Args:
        model: The model.
        files: Where to write.
        name: Name of the file, such as "model.onnx".
        external_data: Whether constants go to a file of their own, ``model.onnx.<digits>.data``; None for
            when they do not fit into one file.

    Raises:
        ExportError: If the model has no form in ONNX, or is not valid.
    """
    files.retire(f"{name}.data")
    is_external = external_data is True or (external_data is None and _size(model) > _EXTERNAL_FROM)
    try:
        if is_external:
            data = files.path(f"{name}.data")
            path = files.path(name)
            ir.save(model, path, external_data=data.name, size_threshold_bytes=_INLINE_UP_TO)
            _point_to(path, files.name_by_contents(data.name))
        else:
            path = files.path(name)
            ir.save(model, path)
    except OSError:
        raise
    except Exception as error:  # onnx_ir has no common error for a constant without a form in ONNX
        raise ExportError(f"The exported graph has no form in ONNX: {error}.") from error
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported model is not valid ONNX: {error}") from error


def _size(model: ir.Model) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _point_to(path: Path, data: str) -> None:
    """Let the constants of a model be found in a file of another name."""
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data
    path.write_bytes(proto.SerializeToString())
