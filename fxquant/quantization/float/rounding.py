"""Rounding to a float type: the nearest of its numbers, half to even, as IEEE 754 rounds.

With n the smallest normal number and M the mantissa bits of the type (``float_type``)::

    unit = max(2^floor(log2|x|), n) * 2^-M
    y    = round(x / unit) * unit,  x clamped to the largest numbers of the type

The power of two is the exponent field of x, and unit is a power of two: every operation is exact but the
rounding itself. A number that rounds up to the next power of two is on the grid as well.
"""

import torch

from fxquant.quantization.float.float_type import FloatType

_EXPONENT_FIELDS = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}


def round_to_type(tensor: torch.Tensor, float_type: FloatType) -> torch.Tensor:
    """Return the numbers of a float type nearest to a float tensor, in the tensor's own type.

    What lies beyond the largest number, infinities included, becomes that number; NaN stays NaN.

    Raises:
        QuantizerError: If the type is not known.
    """
    real = tensor.to(compute_dtype(tensor.dtype, float_type), copy=True)
    return round_to_type_(real, float_type).to(tensor.dtype)


def round_to_type_(real: torch.Tensor, float_type: FloatType) -> torch.Tensor:
    """Round a tensor of ``compute_dtype`` in place, as ``round_to_type`` does, and return it."""
    smallest_normal, largest = float_type.limits()
    real.clamp_(-largest, largest)
    dtype = float_type.torch_dtype
    if dtype is not None and real.dtype == torch.float32 and _prefers_casts(dtype, real.device):
        return real.copy_(real.to(dtype))
    integer, mask = _EXPONENT_FIELDS[real.dtype]
    power = real.view(integer).bitwise_and(mask).view(real.dtype)
    unit = power.clamp_min_(smallest_normal).mul_(2.0**-float_type.mantissa_bits)
    real.div_(unit).round_().mul_(unit)
    return real.add_(0.0) if float_type.unsigned_zero else real  # -0 + 0 = 0


def compute_dtype(dtype: torch.dtype, float_type: FloatType) -> torch.dtype:
    """Return the float type to round in: float32, unless the tensor or the type is wider."""
    is_wide = float_type.exponent_bits > 8 or float_type.mantissa_bits > 23
    return torch.float64 if is_wide else torch.promote_types(dtype, torch.float32)


def _prefers_casts(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether to cast there and back, which is faster but for 8 bits on a CPU: up to 100 times slower there.

    ONNX has no words for the arithmetic; the compiler takes out casts to a half type and back.
    """
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling():
        return torch.onnx.is_in_onnx_export()
    return dtype.itemsize > 1 or device.type != "cpu"
