"""softmax: by a table of exponentials, as ONNX Runtime's QLinearSoftmax does it."""

import math

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled
from fxquant.quantization import AffineEncoding

_RESERVE = 5.0  # the kernel keeps e^5 between a sum of exponentials and the largest float32


def softmax(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels that QLinearSoftmax gives.

    With n numbers along the axis, all of it but the logarithms and exponentials in float32::

        shift = max(0, log(float32_max / n) - 5)
        e_i   = exp((q_i - max(q)) * s + shift)
        q     = min(rint(e_i * floor(1 / s_out) / (e_1 + ... + e_n)) + z, 255)      summed one by one

    For n = 1 the product overflows and the kernel would give 0: files have another op there, which gives 1.
    """
    assert output is not None
    (x,) = inputs
    dim = call.argument("dim")
    dim = (0 if x.real.dim() in (0, 1, 3) else 1) if dim is None else dim  # as torch chooses it
    if x.real.dim() and x.real.shape[dim] == 1:
        return torch.full_like(x.real, output.num_steps + output.offset.item()).clamp_max_(
            float(torch.round(1.0 / output.scale))
        )
    codes = x.codes.movedim(dim, 0)
    scale, count = float(x.scale), codes.shape[0]
    largest = torch.tensor(torch.finfo(torch.float32).max) / count
    shift = max(0.0, math.log(float(largest)) - _RESERVE) / scale
    steps = torch.arange(-x.encoding.num_steps, 1, dtype=torch.float64, device=codes.device)
    table = ((steps + shift) * scale).exp().float()
    exponentials = table[(codes - codes.amax(0) + x.encoding.num_steps).to(torch.int32)]
    total = torch.zeros_like(exponentials[0])
    for exponential in exponentials:
        total.add_(exponential)
    ratio = (exponentials * torch.floor(1.0 / output.scale)).div_(total).round_()
    levels = ratio.nan_to_num_(posinf=0.0).clamp_max_(output.num_steps + output.offset)
    return levels.movedim(0, dim)
