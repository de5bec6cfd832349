"""enable_onnx_export, export_onnx: a calibrated model of Quant* modules as an ONNX file."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules._layer_names import watched_names
from fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from fxquant.errors import FxQuantError
from fxquant.export.module_file import export_module


@contextlib.contextmanager
def enable_onnx_export() -> Iterator[None]:
    """Let ``torch.onnx.export`` in the context say which quantizer is not ready, and by its name.

    Quantizers become QuantizeLinear and DequantizeLinear in any case, by either exporter of torch::

        with enable_onnx_export():
            torch.onnx.export(model, (images,), "model.onnx")

    Raises:
        ExportError: If a quantizer of the model has no form in ONNX, is calibrating, or has no amax; nothing
            is written then.
    """
    before = TensorQuantizer._enable_onnx_export
    TensorQuantizer._enable_onnx_export = True
    try:
        with watched_names():
            yield
    except Exception as error:
        cause = _ours(error)
        if cause is None or cause is error:
            raise
        raise cause from None  # torch.onnx wraps it into a page about torch.export
    finally:
        TensorQuantizer._enable_onnx_export = before


def export_onnx(
    model: nn.Module,
    args: object,
    path: str | Path,
    *,
    kwargs: Mapping[str, Any] | None = None,
    opset_version: int | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    external_data: bool | None = None,
) -> Path:
    """Write a calibrated model as ONNX with its weights as integers: a quarter of the file's size.

    Not in NVIDIA's package, whose files hold float weights and quantize them when they are loaded. Results
    are the same to the bit. The file takes its place whole, or what was there stays.

    Args:
        model: The model; it is exported as in eval mode.
        args: Inputs to trace with: a tensor, or a tuple of positional arguments.
        path: The file.
        kwargs: Keyword arguments to trace with.
        opset_version: Opset of the file; None for torch.onnx's own choice.
        input_names: Names of the inputs in the file.
        output_names: Names of the outputs.
        dynamic_shapes: Sizes that may vary, as ``torch.onnx.export`` takes them.
        external_data: Whether weights go to a file of their own; None for when they do not fit into one.

    Returns:
        The path.

    Raises:
        ExportError: If a quantizer is not ready (``enable_onnx_export``), torch.onnx cannot export the model,
            or the file cannot be written.
    """
    target = Path(path)
    with enable_onnx_export():
        export_module(
            model,
            args if isinstance(args, tuple) else (args,),
            target,
            kwargs=kwargs,
            opset=opset_version,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            external_data=external_data,
        )
    return target


def _ours(error: BaseException | None) -> FxQuantError | None:
    """Return the error of fxquant among an error and its causes."""
    while error is not None and not isinstance(error, FxQuantError):
        error = error.__cause__
    return error
