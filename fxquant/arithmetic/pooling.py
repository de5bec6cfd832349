"""Average pools, in the roundings of ONNX Runtime's kernels."""

import math

import torch
from torch.nn import functional as F

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled, levels_of_codes, saturated
from fxquant.quantization import AffineEncoding

_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_EXACT = 2**16  # 8-bit levels whose sum float32 holds


def average_pool(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels that QLinearAveragePool gives.

    The mean of the real values is taken in float32, summed in the order in which torch does it; then
    ``q = clamp(rint(mean / s + z), qmin, qmax)``, quotient and sum rounded to float32.
    """
    assert output is not None
    (x,) = inputs
    return _pooled(call.on(x.real.float()), output)


def adaptive_average_pool(
    call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
) -> torch.Tensor:
    """Return the levels that the pool gives as which an adaptive pool is exported.

    Over whole images that is QLinearGlobalAveragePool, ``level = clamp(rint(sum(levels) * m))`` with
    ``m = s / (s_out * n)`` in float32; over windows that divide the image, QLinearAveragePool; otherwise the
    mean in float32, quantized.
    """
    assert output is not None
    (x,) = inputs
    sizes = tuple(x.real.shape)
    pooled = tuple(call.on(torch.empty(sizes, device="meta")).shape)
    channels, *windows = (size // other for size, other in zip(sizes[1:], pooled[1:], strict=True))
    divides = all(size % other == 0 for size, other in zip(sizes, pooled, strict=True))
    if channels != 1 or not divides:  # channels: an image without a batch
        return saturated(call.on(x.real.float()).div_(output.scale), output)
    if any(size > 1 for size in pooled[2:]):
        return _pooled(_POOLS[len(windows)](x.real.float(), windows), output)
    elements = math.prod(windows)
    dtype = torch.float32 if elements <= _EXACT else torch.float64
    sums = x.levels.sum(dim=tuple(range(2, len(sizes))), keepdim=True, dtype=dtype).float()
    return saturated(sums.mul_(x.scale / (output.scale * elements)), output)


def _pooled(mean: torch.Tensor, output: AffineEncoding) -> torch.Tensor:
    return levels_of_codes(mean.div_(output.scale).sub_(output.offset), output)
