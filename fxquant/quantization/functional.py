"""The arithmetic of affine quantization; every other file refers to these formulas.

With s the scale, o the offset (minus the zero point), h the zero-point shift (0 or 1/2) and [qmin, qmax] the
grid (AIMET's convention)::

    x_q  = clamp(round(x / s - h) - o, qmin, qmax)      round half to even, as ONNX QuantizeLinear does
    x_dq = (x_q + o + h) * s

Division by the scale is exact where multiplication by its reciprocal is not: 0 against some 70 differing
codes in 10^7. ``gradients`` holds the derivatives.

scale and offset broadcast against the tensor: shape [] or, per channel, for example [out, 1, 1, 1]. With a
block size, each of their entries serves one block of the tensor (``blocks``).
"""

import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.blocks import BlockSize, check_scale, in_blocks, is_dense, is_expandable, per_block
from fxquant.quantization.gradients import Dequantize, Quantize, QuantizeDequantize, needs_gradient
from fxquant.quantization.pieces import pieces

_EPS_SHARE = 0.25  # a float type computes a grid when its eps is at most this share of one step of it
_NORMAL = 1e-30, 1e30  # scales whose products with any code are normal numbers in float32


def quantize(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    qmin: int,
    qmax: int,
    block_size: BlockSize = None,
) -> torch.Tensor:
    """Return the codes of ``tensor`` as whole numbers in [qmin, qmax], in its float type; differentiable.

    Raises:
        QuantizerError: If that type cannot hold every code exactly, or the scale does not fit.
    """
    if not tensor.is_floating_point() or not holds_grid(tensor.dtype, qmin, qmax):
        raise QuantizerError(
            f"{tensor.dtype} is unable to represent quantized output of range [{qmin}, {qmax}].",
            remedy="Quantize a tensor of a wider float type, or use fewer bits.",
        )
    return _codes(tensor, scale, offset, qmin, qmax, block_size).to(tensor.dtype)


def quantize_to_integers(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    qmin: int,
    qmax: int,
    dtype: torch.dtype,
    block_size: BlockSize = None,
) -> torch.Tensor:
    """Return the codes of ``tensor`` as an integer tensor of a dtype that holds [qmin, qmax]."""
    return _codes(tensor, scale, offset, qmin, qmax, block_size).to(dtype)


def dequantize(
    codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, block_size: BlockSize = None
) -> torch.Tensor:
    """Return ``(codes + offset) * scale``; differentiable.

    The result has the type of float codes; for integer codes it has the type of scale.
    """
    check_scale(codes.shape, scale.shape, block_size)
    dtype = codes.dtype if codes.is_floating_point() else scale.dtype
    shape = codes.shape
    codes, scale, offset = _by_block(codes, scale, offset, block_size)
    if needs_gradient(codes, scale, offset):
        real: torch.Tensor = Dequantize.apply(codes.to(dtype), scale, offset)  # type: ignore[no-untyped-call]  # torch is untyped here
    else:
        real = torch.add(codes.to(dtype), offset.to(dtype)).mul_(scale.to(dtype))
    return real.reshape(shape)


def quantize_dequantize(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    qmin: int,
    qmax: int,
    block_size: BlockSize = None,
    zero_point_shift: float = 0.0,
) -> torch.Tensor:
    """Return the values on the grid nearest to ``tensor``, in its float type; differentiable.

    Args:
        tensor: Float tensor of any shape. Integer and bool tensors are returned as they are.
        scale: Real size of one step, positive, broadcastable against tensor or one entry per block.
        offset: Minus the zero point, whole numbers; same shape as scale.
        qmin: Lowest code.
        qmax: Highest code.
        block_size: Block sizes by axis, -1 for what is left; None without blocks.
        zero_point_shift: 0, or 0.5 for a grid whose values lie half a step beside the whole ones.

    Raises:
        QuantizerError: If the scale does not fit the tensor.
    """
    if not tensor.is_floating_point():
        return tensor
    if not torch.compiler.is_compiling():
        check_scale(tensor.shape, scale.shape, block_size)
    dtype = compute_dtype(tensor.dtype, qmax - qmin)
    real, scale, offset = _by_block(in_dtype(tensor, dtype), scale, offset, block_size)
    if torch.onnx.is_in_onnx_export():  # the older exporter knows no arithmetic in place
        real = (
            _codes_for_export(real, scale, offset, qmin, qmax, zero_point_shift) + offset + zero_point_shift
        ) * scale
    elif needs_gradient(tensor, scale, offset):
        real = QuantizeDequantize.apply(real, scale, offset, qmin, qmax, zero_point_shift)  # type: ignore[no-untyped-call]  # torch is untyped here
    else:
        scale, offset = in_dtype(scale, dtype), in_dtype(offset, dtype)
        real = QuantizeDequantize.snap(real, scale, offset, qmin, qmax, zero_point_shift)
    return in_dtype(real.reshape(tensor.shape) if block_size else real, tensor.dtype)


def overwrite(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    qmin: int,
    qmax: int,
    block_size: BlockSize = None,
    zero_point_shift: float = 0.0,
) -> bool:
    """Do ``quantize_dequantize`` in the memory of its tensor, through the cache; return whether it was done.

    It is not for blocks, for tensors of a type too coarse to compute the grid in, whose elements share memory
    or leave gaps, or which the scale does not fit. No gradient flows.
    """
    is_native = compute_dtype(tensor.dtype, qmax - qmin) is tensor.dtype and not needs_gradient(scale, offset)
    if block_size or not is_native or not is_expandable(scale.shape, tensor.shape) or not is_dense(tensor):
        return False
    scale, offset = in_dtype(scale, tensor.dtype), in_dtype(offset, tensor.dtype)
    for part, s, o in pieces(tensor, scale, offset):
        QuantizeDequantize.snap_(part, s, o, qmin, qmax, zero_point_shift)
    return True


def is_idempotent(dtype: torch.dtype, scale: torch.Tensor, qmin: int, qmax: int) -> bool:
    """Whether quantizing a tensor of a type twice gives what quantizing it once does, to the last bit.

    A value k * s on the grid, |k| <= qmax - qmin, is off by half an eps of the type, and so is its quotient:
    together at most ``_EPS_SHARE`` of a step where the grid is computed in the tensor's own type. It rounds
    to k again, unless k * s leaves the normal numbers.
    """
    if dtype.itemsize < 4 or compute_dtype(dtype, qmax - qmin) is not dtype:
        return False
    if scale.numel() != 1 or needs_gradient(scale):
        return False
    smallest, largest = _NORMAL
    return smallest <= scale.item() <= largest


def scale_and_offset(
    minimum: torch.Tensor, maximum: torch.Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale and offset of the grid that covers a range; differentiable in the range.

    ``scale = |max - min| / (qmax - qmin)``, at least ``smallest_scale``. A symmetric offset is the constant
    that puts real zero in the middle of the grid (0 for int8); otherwise
    ``offset = clamp(round(min / scale) - qmin, -qmax, -qmin)``, so that zero is a code.

    Args:
        minimum: Lower end of the range, of any shape.
        maximum: Upper end, same shape.
        qmin: Lowest code.
        qmax: Highest code.
        symmetric: Whether zero lies in the middle of the grid.
    """
    steps = qmax - qmin
    scale = (maximum - minimum).abs().clamp_min(smallest_scale(steps) * steps) / steps
    if symmetric:
        return scale, torch.full_like(scale, symmetric_offset(qmin, qmax))
    return scale, round_straight_through(minimum / scale).clamp(qmin - qmax, 0) - qmin


def range_of(
    scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ends of the range from which ``scale_and_offset`` finds a grid, in float32.

    The width w of the range is the float32 number nearest to ``(qmax - qmin) * scale`` that gives the scale
    when it is divided again; one of its two neighbours does if any number does. With the lower end a whole
    multiple of the last digit of w, both ends, and w as their difference, are exact. Every scale that came
    from a range has such a width; one in 250 of all others with 8 bits, one in 7 with 2 bits, has none, and
    then the scale found is the neighbour of this one.
    """
    steps = qmax - qmin
    nearest = (scale * steps).contiguous()
    width = nearest
    for side in (-torch.inf, torch.inf):
        neighbour = torch.nextafter(nearest, torch.full_like(nearest, side))
        width = torch.where((width / steps != scale) & (neighbour / steps == scale), neighbour, width)
    digit = width - torch.nextafter(width, torch.zeros_like(width))
    minimum = torch.round(scale * (offset + qmin) / digit) * digit
    return minimum, minimum + width


def symmetric_offset(qmin: int, qmax: int) -> float:
    """Return the offset that puts real zero in the middle of a grid: 0 for int8, -128 for uint8."""
    return float(-round((qmin + qmax) / 2))


def smallest_scale(num_steps: float) -> float:
    """Return the smallest scale in use: float32 eps, or less on very fine grids."""
    return min(torch.finfo(torch.float32).eps, 0.01 / num_steps)


def compute_dtype(dtype: torch.dtype, num_steps: int) -> torch.dtype:
    """Return the float type to compute a grid in: the tensor's own unless it is too coarse for it."""
    for candidate in (dtype, torch.float32):
        if torch.finfo(candidate).eps * num_steps <= _EPS_SHARE:
            return candidate
    return torch.float64


def holds_grid(dtype: torch.dtype, qmin: int, qmax: int) -> bool:
    """Whether a float type represents the codes at both ends of a grid, and their neighbours, exactly."""
    info = torch.finfo(dtype)
    codes = (abs(code) for code in (qmin, qmin + 1, qmax - 1, qmax))
    return all(code <= info.max and (code // (code & -code or 1)) < 2 / info.eps for code in codes)


def _codes(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    qmin: int,
    qmax: int,
    block_size: BlockSize,
) -> torch.Tensor:
    """Return codes in the float type they are computed in, in the tensor's shape."""
    check_scale(tensor.shape, scale.shape, block_size)
    dtype = compute_dtype(tensor.dtype, qmax - qmin)
    real, scale, offset = _by_block(tensor.to(dtype), scale, offset, block_size)
    if torch.onnx.is_in_onnx_export():
        codes = _codes_for_export(real, scale, offset, qmin, qmax)
    elif needs_gradient(real, scale, offset):
        codes = Quantize.apply(real, scale, offset, qmin, qmax)  # type: ignore[no-untyped-call]  # torch is untyped here
    else:
        codes = torch.div(real, scale.to(dtype)).round_().sub_(offset.to(dtype)).clamp_(qmin, qmax)
    return codes.reshape(tensor.shape)


def _by_block(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, block_size: BlockSize
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the three so that they broadcast, in blocks where there are any."""
    if not block_size:
        return tensor, scale, offset
    return in_blocks(tensor, scale.shape, block_size), per_block(scale), per_block(offset)


def _codes_for_export(
    real: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int, shift: float = 0.0
) -> torch.Tensor:
    return ((real / scale - shift).round() - offset).clamp(qmin, qmax)


def round_straight_through(values: torch.Tensor) -> torch.Tensor:
    """Return values rounded half to even; gradients pass as if they were not."""
    if not needs_gradient(values):
        return values.round()
    return values + (values.round() - values).detach()


def in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor in a type; where it has it already, without the microsecond that ``to`` takes."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
