"""set_given_range: give a quantizer the range that another library's quantizer had, on the same steps."""

import torch

from fxquant.quantization.affine.exact_encoding import set_exactly
from fxquant.quantization.affine.quantizer_base import AffineQuantizerBase
from fxquant.quantization.functional import smallest_scale, symmetric_offset
from fxquant.quantization.given import Given
from fxquant.quantization.of_spec import Trainable


def refusal(quantizer: Trainable, given: Given) -> str:
    """Return why a quantizer cannot have a given range; empty if it can."""
    if given.amax is None:
        return "the model's own quantizer had no range: calibrate finds one"
    if not bool(given.amax.isfinite().all()):
        return "the range of the model's own quantizer is not finite: calibrate finds one"
    if not quantizer.is_overwrite_allowed():
        return "the op fixes the range"
    if quantizer.block_size is not None:
        return "the target quantizes it in blocks"
    return ""


def set_given_range(quantizer: Trainable, given: Given) -> str:
    """Write a given range, and return in words what became of it.

    A symmetric range keeps its steps, amax / (2 ** (bits - 1) - 1), on any grid of as many bits, codes
    counted from zero or from the middle; one from zero keeps them on an asymmetric grid. On any other grid
    the range is kept and the steps are the grid's own. Where the quantizer has one range for what had
    several, it gets the widest. No step is smaller than those that quantizers have.

    Args:
        quantizer: One that ``refusal`` finds nothing against.
        given: The range.
    """
    device = next(tensor.device for tensor in (*quantizer.parameters(), *quantizer.buffers()))
    assert given.amax is not None
    amax = given.amax.detach().to(device, torch.float32)
    is_widest = amax.numel() > 1 and not _fits(amax, quantizer.shape)
    amax = (amax.amax() if is_widest or amax.numel() == 1 else amax).expand(quantizer.shape)
    words = "the widest of its ranges is kept" if is_widest else "its range is kept"
    if not isinstance(quantizer, AffineQuantizerBase):
        quantizer.maxval.copy_(amax)
        return f"{words} as the largest number of {quantizer.float_type}"
    low, high = quantizer.qmin, quantizer.qmax
    middle, smallest = symmetric_offset(low, high), smallest_scale(high - low)
    has_its_steps = given.is_integer and high - low >= (1 << given.bitwidth) - 2
    has_its_steps &= (high - low) < (1 << given.bitwidth)
    if given.signed or quantizer.symmetric:
        scale = (amax / (high + middle)).clamp_min(smallest)
        set_exactly(quantizer, scale, torch.full_like(amax, middle))
        has_its_steps &= given.signed
    else:
        scale = (amax / (high - low)).clamp_min(smallest)
        set_exactly(quantizer, scale, torch.full_like(amax, float(-low)))
    bits = given.bitwidth if given.is_integer else f"float{given.bitwidth}"
    return words if has_its_steps else f"{words}; its steps, of {bits} bits, are not the target's"


def _fits(amax: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a range can be written in a shape without losing any of its numbers."""
    return amax.dim() == len(shape) and all(
        own in (1, size) for own, size in zip(amax.shape, shape, strict=True)
    )
