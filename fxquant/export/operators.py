"""The two operators that an exported graph is traced with, and their translation to ONNX.

``fxquant::quantize_dequantize`` becomes QuantizeLinear and DequantizeLinear, ``fxquant::dequantize`` (of
stored integers) becomes DequantizeLinear alone. Both carry the tensor's name, so that the file can use it.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18, opset21

TENSOR_NAME = "fxquant.tensor"  # metadata key on the ONNX value that a name belongs to

_LIBRARY = torch.library.Library("fxquant", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch is untyped here
_SCHEMAS = (
    "quantize_dequantize(Tensor input, Tensor scale, Tensor zero_point, int axis, str tensor) -> Tensor",
    "dequantize(Tensor codes, Tensor scale, Tensor zero_point, int axis, str tensor) -> Tensor",
)
for _schema in _SCHEMAS:
    _LIBRARY.define(_schema)  # type: ignore[no-untyped-call]  # torch is untyped here


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that torch.onnx.export translates the two operators with."""
    ops: Any = opset21 if opset >= 21 else opset18

    def quantize_dequantize(input: Any, scale: Any, zero_point: Any, axis: int, tensor: str) -> Any:
        codes = ops.QuantizeLinear(input, scale, zero_point, axis=axis)
        codes.metadata_props[TENSOR_NAME] = tensor
        return ops.DequantizeLinear(codes, scale, zero_point, axis=axis)

    def dequantize(codes: Any, scale: Any, zero_point: Any, axis: int, tensor: str) -> Any:
        has_zero_point = str(zero_point.dtype) != "INT32"  # a bias: ONNX knows no zero point for int32
        inputs = (codes, scale, zero_point) if has_zero_point else (codes, scale)
        value = ops.DequantizeLinear(*inputs, axis=axis)
        value.metadata_props[TENSOR_NAME] = tensor
        return value

    namespace = torch.ops.fxquant
    return {
        namespace.quantize_dequantize.default: quantize_dequantize,
        namespace.dequantize.default: dequantize,
    }


def _like_input(
    input: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, tensor: str
) -> torch.Tensor:
    return torch.empty_like(input)


def _like_codes(
    codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, tensor: str
) -> torch.Tensor:
    return torch.empty_like(codes, dtype=scale.dtype)


torch.library.register_fake("fxquant::quantize_dequantize", _like_input, lib=_LIBRARY)
torch.library.register_fake("fxquant::dequantize", _like_codes, lib=_LIBRARY)
