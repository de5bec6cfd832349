"""The integer kernels of Qualcomm's HTP, on grids of uint8; found by experiment, see docs/arithmetic.md."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from fxquant.arithmetic.arithmetic import Arithmetic, KernelRule
from fxquant.arithmetic.call import Call
from fxquant.arithmetic.htp import Generation, mean_htp, requantize_htp, requantize_htp_vector
from fxquant.arithmetic.htp_bias import kept_bias
from fxquant.arithmetic.htp_sum import sum_htp
from fxquant.arithmetic.levels import Leveled, saturated
from fxquant.arithmetic.product import Product
from fxquant.arithmetic.weighted import Weighted
from fxquant.quantization import AffineEncoding

_SMALLEST = 3  # kernel of a depthwise convolution that the vector unit computes


@dataclass(frozen=True, kw_only=True)
class Convolution(Weighted):
    """A convolution: on the matrix unit, or, depthwise with a stride of 2 by 2, on the vector unit."""

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor:
        if not _is_on_vector_unit(call.called):
            return super().__call__(call, inputs, output)
        return Weighted(requantize=requantize_htp_vector)(call, inputs, output)


def add(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels of a sum, see ``sum_htp``."""
    assert output is not None
    first, second = inputs
    return sum_htp(first.codes, first.encoding, second.codes, second.encoding, output)


def subtract(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels of a difference, see ``sum_htp``."""
    assert output is not None
    first, second = inputs
    return sum_htp(first.codes, first.encoding, second.codes, second.encoding, output, is_difference=True)


def adaptive_average_pool(
    call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
) -> torch.Tensor:
    """Return the levels of an average over whole images, see ``mean_htp``; other windows as in float."""
    assert output is not None
    (x,) = inputs
    sizes = x.real.shape
    pooled = call.on(torch.empty(sizes, device="meta")).shape
    if any(size > 1 for size in pooled[2:]) or len(sizes) < 4:  # without a batch, axis 2 is not the first
        return saturated(call.on(x.real.float()).div_(output.scale), output)
    total = x.levels.sum(dim=(2, 3), keepdim=True, dtype=torch.float64)
    return mean_htp(total, sizes[2] * sizes[3], x.scale, output)


def _is_on_vector_unit(module: Any) -> bool:
    channels = {module.groups, module.in_channels, module.out_channels}
    is_depthwise = len(channels) == 1 and channels != {1}
    return is_depthwise and module.stride == (2, 2) and min(module.kernel_size) >= _SMALLEST


def _htp(name: str, chips: str, generation: Generation) -> Arithmetic:
    requantize = partial(requantize_htp, generation=generation)
    keep_bias = None if generation is Generation.V68 else kept_bias
    return Arithmetic(
        name=name,
        description=f"the kernels of Qualcomm's HTP ({chips}) on grids of uint8, as its simulator rounds",
        rules=(
            KernelRule(
                ops=("conv2d",),
                formula=Convolution(requantize=requantize, keep_bias=keep_bias),
                why="Conv2d and DepthWiseConv2d: few bits of the multiplier, an accumulator without low bits",
            ),
            KernelRule(
                ops=("linear",),
                formula=Weighted(requantize=requantize, keep_bias=keep_bias),
                why="FullyConnected: as Conv2d",
            ),
            KernelRule(
                ops=("matmul",),
                formula=Product(requantize=requantize),
                takes_channels=True,
                why="MatMul: as Conv2d, while real zero is the middle of the second operand's grid",
            ),
            KernelRule(ops=("add",), formula=add, why="ElementWiseAdd: codes times ratios of 14 bits"),
            KernelRule(
                ops=("adaptive_avg_pool",),
                formula=adaptive_average_pool,
                why="PoolAvg2d over whole images: a sum times a ratio of 15 bits",
            ),
            KernelRule(ops=("sub",), formula=subtract, why="ElementWiseSubtract: as ElementWiseAdd"),
            KernelRule(
                ops=("relu", "relu6", "clamp"),
                is_epilogue=True,
                why="Relu and Clip vanish where the quantizer behind them clips the same values",
            ),
        ),
    )


HTP = _htp("htp", "V73, V75, V79, V81", Generation.V73)
HTP_V68 = _htp("htp-v68", "V68, V69", Generation.V68)
