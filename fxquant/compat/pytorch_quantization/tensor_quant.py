"""Quantization of tensors, and the descriptors that say how; NVIDIA's signatures, defaults and checks.

>>> import torch
>>> from fxquant.compat.pytorch_quantization import tensor_quant
>>> _ = torch.manual_seed(12345)
>>> x = torch.rand(10)
>>> tensor_quant.fake_tensor_quant(x, x.abs().max())
tensor([0.9843, 0.8828, 0.9921, 0.4609, 0.0859, 0.1797, 0.3672, 0.5703, 0.3359,
        0.2109])
>>> tensor_quant.tensor_quant(x, x.abs().max())
(tensor([126., 113., 127.,  59.,  11.,  23.,  47.,  73.,  43.,  27.]), tensor(128.0057))

An axis of a descriptor is one that keeps an amax of its own, the opposite of numpy's. All functions are
differentiable in their inputs, straight through the rounding within amax (``fxquant.quantization.multiplier``
has the formulas).
"""

import torch

from fxquant.compat.pytorch_quantization._descriptor import QuantDescriptor, ScaledQuantDescriptor
from fxquant.errors import OptionError, OptionTypeError, UnsupportedError
from fxquant.quantization import affine_range, multiplier
from fxquant.quantization.float import FloatType
from fxquant.quantization.float import multiplier as float_multiplier
from fxquant.quantization.gradients import is_jit_traced, is_watched

__all__ = [
    "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW",
    "QUANT_DESC_8BIT_PER_TENSOR",
    "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR",
    "QuantDescriptor",
    "ScaledQuantDescriptor",
    "fake_affine_tensor_quant",
    "fake_tensor_quant",
    "legacy_fake_tensor_quant",
    "scaled_e4m3",
    "tensor_quant",
]

QUANT_DESC_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8)
QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8, unsigned=True)
QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)

_E4M3 = FloatType(exponent_bits=4, mantissa_bits=3, finite=True)
_LARGEST_HALF = torch.finfo(torch.float16).max


def tensor_quant(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    num_bits: int = 8,
    unsigned: bool = False,
    narrow_range: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes of a tensor, as whole numbers in its float type, and NVIDIA's scale.

    Args:
        inputs: Float tensor of any shape.
        amax: Largest magnitude represented; broadcastable against inputs.
        num_bits: Bits of a code.
        unsigned: Whether codes start at 0.
        narrow_range: Whether the lowest signed code, which has no opposite, goes unused.

    Returns:
        The codes, and ``scale = bound / amax``, in the type of inputs and the shape of amax: real values are
        ``codes / scale``. The gradient of the codes counts them as values.

    Raises:
        OptionError: If amax is negative, or the scale of float16 inputs is beyond that type.
        OptionTypeError: If inputs are negative, and codes unsigned.
    """
    amax = _checked(inputs, amax, unsigned)
    qmin, qmax = code_range(num_bits, unsigned, narrow_range)
    codes, scale = multiplier.quantize(inputs, amax, qmin, qmax)
    if codes.dtype == torch.float16 and not _is_traced() and bool(scale.max() > _LARGEST_HALF):
        raise OptionError(f"scale is too large for FP16 with amax={amax}.")
    return codes, scale.to(inputs.dtype)


def fake_tensor_quant(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    num_bits: int = 8,
    unsigned: bool = False,
    narrow_range: bool = True,
) -> torch.Tensor:
    """Return the values on the grid nearest to a tensor, in its type.

    Arguments as in ``tensor_quant``. Types of 16 bits are computed in float32. Beside a CPU, nothing is
    checked that would make the host wait, and what an unsigned grid does not reach becomes 0.

    Raises:
        OptionError: If amax is negative.
        OptionTypeError: If inputs are negative, and codes unsigned.
    """
    amax = _checked(inputs, amax, unsigned) if inputs.device.type == "cpu" else _tensor(amax, inputs)
    return multiplier.quantize_dequantize(inputs, amax, *code_range(num_bits, unsigned, narrow_range))


def legacy_fake_tensor_quant(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    num_bits: int = 8,
    unsigned: bool = False,
    narrow_range: bool = True,
) -> torch.Tensor:
    """Return what ``fake_tensor_quant`` does, but compute bfloat16 in bfloat16, and check on every device."""
    amax = _checked(inputs, amax, unsigned)
    dtype = multiplier.own_dtype(inputs, amax)
    return multiplier.quantize_dequantize(inputs, amax, *code_range(num_bits, unsigned, narrow_range), dtype)


def fake_affine_tensor_quant(
    inputs: torch.Tensor, min_range: torch.Tensor, max_range: torch.Tensor, num_bits: int = 8
) -> torch.Tensor:
    """Return the values nearest to a tensor on a grid with a zero point, between two ends.

    Args:
        inputs: Float tensor of any shape.
        min_range: Lower end; broadcastable against inputs.
        max_range: Upper end, of the same shape.
        num_bits: Bits of a code.
    """
    ends = _tensor(min_range, inputs), _tensor(max_range, inputs)
    return affine_range.quantize_dequantize_between(inputs, *ends, num_bits)


def scaled_e4m3(
    inputs: torch.Tensor, amax: torch.Tensor | None = None, E: int = 4, M: int = 3
) -> torch.Tensor:
    """Return the values nearest to a tensor in 8-bit float numbers E4M3, scaled so that amax is the largest.

    Args:
        inputs: Float tensor of any shape.
        amax: Largest magnitude represented, broadcastable against inputs; None for 448, without a scale.
        E: Exponent bits.
        M: Mantissa bits.

    Raises:
        UnsupportedError: If the type is another one than E4M3.
    """
    if (E, M) != (4, 3):
        raise UnsupportedError(f"Only E=4 and M=3 are supported, not E={E} and M={M}.")
    amax = None if amax is None else _tensor(amax, inputs)
    return float_multiplier.quantize_dequantize(inputs, amax, _E4M3)


def code_range(num_bits: int, unsigned: bool, narrow_range: bool) -> tuple[int, int]:
    """Return the lowest and the highest code."""
    bound = 2 ** (num_bits - 1 + int(unsigned)) - 1
    if unsigned:
        return 0, bound
    return (-bound if narrow_range else -bound - 1), bound


def _checked(inputs: torch.Tensor, amax: torch.Tensor, unsigned: bool) -> torch.Tensor:
    """Return amax as a tensor, once it and the inputs are known to be of the signs they may have."""
    amax = _tensor(amax, inputs)
    if _is_traced():
        return amax
    if unsigned and bool(inputs.min() < 0):
        raise OptionTypeError("Negative values encountered in unsigned quantization.")
    if bool(amax.min() < 0):
        raise OptionError("Negative values in amax.")
    return amax


def _tensor(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value, device=like.device)


def _is_traced() -> bool:
    """Whether values are unknown, so that nothing can depend on them."""
    return torch.compiler.is_compiling() or is_jit_traced() or is_watched()
