"""Convolutions and linear layers against QLinearConv, QGemm and QLinearMatMul."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from fxquant.arithmetic import Call
from fxquant.arithmetic.product import Product
from fxquant.arithmetic.requantize import requantize
from fxquant.arithmetic.weighted import EXACT, Weighted, bias_levels, parts_of, weight_levels
from fxquant.nn import QuantizationMixin
from fxquant.quantization import AffineEncoding
from tests.arithmetic.kernel import (
    INT8,
    UINT8,
    differing,
    fused,
    grid,
    leveled,
    numbers,
    random_codes,
    random_grid,
)

FORMULA = Weighted(requantize=requantize)
LAYERS = [
    pytest.param(lambda: nn.Conv2d(8, 12, 3, padding=1), (2, 8, 9, 7), id="conv2d"),
    pytest.param(lambda: nn.Conv2d(8, 12, 1, bias=False), (2, 8, 9, 7), id="without bias"),
    pytest.param(lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), (2, 8, 9, 7), id="depthwise"),
    pytest.param(lambda: nn.Conv2d(8, 12, 3, stride=2, groups=4), (2, 8, 9, 7), id="groups"),
    pytest.param(lambda: nn.Conv2d(640, 5, 3, padding=1), (1, 640, 5, 4), id="many products"),
    pytest.param(lambda: nn.Conv1d(8, 12, 5, padding=2), (2, 8, 33), id="conv1d"),
    pytest.param(lambda: nn.Conv3d(4, 6, 3, padding=1), (1, 4, 5, 6, 7), id="conv3d"),
]


def frozen(layer: nn.Module, x: AffineEncoding, random: torch.Generator, limit: int) -> nn.Module:
    """Return a layer with random codes: a scale per output channel, and biases of up to a limit."""
    quantized = QuantizationMixin.from_module(layer)
    weight = layer.weight.detach()
    scale = torch.rand(weight.shape[0], *[1] * (weight.dim() - 1), generator=random) * 0.01 + 0.0001
    encoding = AffineEncoding(scale, torch.zeros_like(scale), -127, 127, True)
    codes = random_codes(random, *weight.shape, codes=(-127, 127))
    with torch.no_grad():
        layer.weight.copy_(encoding.dequantize(codes))
    quantized.freeze_parameter("weight", encoding)
    if layer.bias is not None:
        bias = (x.scale * scale).reshape(-1)
        quantized.freeze_parameter(
            "bias", AffineEncoding(bias, torch.zeros_like(bias), -(2**31), 2**31 - 1, True)
        )
        quantized.bias = torch.randint(-limit, limit, bias.shape, generator=random, dtype=torch.int32)
    return quantized


def operands(module: nn.Module) -> list[tuple[torch.Tensor, AffineEncoding]]:
    quantizers = [(name, module.param_quantizers[name]) for name in ("weight", "bias")]
    return [(getattr(module, name), q.get_encodings()) for name, q in quantizers if q is not None]


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("limit", [10**5, 2**28], ids=["small biases", "large biases"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_convolution_gives_the_codes_of_the_kernel(make, shape, limit, codes, tmp_path: Path) -> None:
    random = numbers(0)
    x, layer = random_grid(random, codes), make()
    module = frozen(layer, x, random, limit)
    values = random_codes(random, *shape, codes=codes)
    call, inputs = Call(called=module), (leveled(values, x),)
    output = grid(float(FORMULA(call, inputs, None).std()) / 40, sum(codes) // 2, codes)
    held = operands(module)
    attributes = {
        "pads": [*layer.padding, *layer.padding],
        "strides": layer.stride,
        "dilations": layer.dilation,
        "group": layer.groups,
    }
    given = fused(tmp_path, "Conv", [(values, x), *held], output, constants=len(held), attributes=attributes)
    assert differing(FORMULA(call, inputs, output), output, given) == 0
    assert given.unique().numel() > 3


@pytest.mark.parametrize("output", [grid(0.4, 100), None], ids=["codes", "real values"])
@pytest.mark.parametrize("limit", [10**5, 2**28], ids=["small biases", "large biases"])
def test_linear_gives_what_the_kernel_gives(limit, output, tmp_path: Path) -> None:
    random = numbers(1)
    x = random_grid(random)
    module = frozen(nn.Linear(3000, 40), x, random, limit)
    values = random_codes(random, 16, 3000)
    held, transposed = operands(module), {"transB": 1}
    given = fused(tmp_path, "Gemm", [(values, x), *held], output, constants=2, attributes=transposed)
    found = FORMULA(Call(called=module), (leveled(values, x),), output)
    found = found if output is None else found - output.offset
    assert torch.equal(found, given)


def test_accumulators_that_other_roundings_tell_apart_give_the_codes_of_the_kernel(tmp_path: Path) -> None:
    random, channels = numbers(2), 512
    x, output = grid(0.0317, 7), grid(0.0123, 90)
    module = frozen(nn.Linear(1, channels), x, random, 2)
    scale = module.param_quantizers["weight"].scale.mul_(1e-4).reshape(-1)
    module.param_quantizers["bias"].scale.copy_(x.scale * scale)
    ties = torch.randint(-60, 60, (400, channels), generator=random) + 0.5
    real = ties.double() * output.scale / (x.scale * scale)
    candidates = (real + torch.randint(-40, 40, real.shape, generator=random)).round().clamp(-(2**30), 2**30)
    floats = candidates.float()
    exact = (floats * (x.scale * scale / output.scale)).round()
    others = (
        (floats * (x.scale * scale) / output.scale).round(),
        (floats * (x.scale * (scale / output.scale))).round(),
        (candidates * x.scale.double() * scale / output.scale).round().float(),
    )
    tells = torch.stack([other != exact for other in others]).any(0)
    module.bias = candidates.gather(0, tells.int().argmax(0, keepdim=True))[0].int()
    values, transposed = torch.full((1, 1), 7), {"transB": 1}  # real zero: the bias alone is accumulated
    given = fused(
        tmp_path, "Gemm", [(values, x), *operands(module)], output, constants=2, attributes=transposed
    )
    levels = FORMULA(Call(called=module), (leveled(values, x),), output)
    assert int(tells.any(0).sum()) > channels // 2
    assert differing(levels, output, given) == 0


@pytest.mark.parametrize("output", [grid(0.4, 100), None], ids=["codes", "real values"])
@pytest.mark.parametrize("terms", [16, 300], ids=["float32", "float64"])
def test_product_of_activations_gives_what_the_kernel_gives(terms, output, tmp_path: Path) -> None:
    random = numbers(3)
    first, second = random_grid(random), random_grid(random)
    x, y = random_codes(random, 2, 3, 9, terms), random_codes(random, 2, 3, terms, 11)
    given = fused(tmp_path, "MatMul", [(x, first), (y, second)], output)
    call = Call(called=torch.matmul)
    found = Product(requantize=requantize)(call, (leveled(x, first), leveled(y, second)), output)
    found = found if output is None else found - output.offset
    assert torch.equal(found, given)


@pytest.mark.parametrize("output", [grid(0.4, 100), None], ids=["codes", "real values"])
def test_product_with_a_constant_takes_a_scale_per_column(output, tmp_path: Path) -> None:
    random = numbers(4)
    first, scale = random_grid(random), torch.rand(1, 11, generator=random) * 0.01 + 0.001
    second = AffineEncoding(scale, torch.zeros_like(scale), -127, 127, True)
    x, y = random_codes(random, 2, 9, 77), random_codes(random, 77, 11, codes=(-127, 127))
    given = fused(tmp_path, "MatMul", [(x, first), (y, second)], output, constants=1)
    call = Call(called=torch.matmul)
    found = Product(requantize=requantize)(call, (leveled(x, first), leveled(y, second)), output)
    found = found if output is None else found - output.offset
    assert torch.equal(found, given)


@pytest.mark.parametrize("channels", [4, 700, 5000])
def test_no_part_of_a_sum_can_reach_the_end_of_float32s_whole_numbers(channels: int) -> None:
    x = grid(0.02, 5)
    module = frozen(nn.Conv2d(channels, 3, 3), x, numbers(5), 2**20)
    weight, bias = weight_levels(module), bias_levels(module, torch.ones(3))
    parts = parts_of(module, weight, bias, x.num_steps)
    reach = weight.abs().double().flatten(2).sum(2) * 255
    assert parts.cuts[0] == 0
    assert parts.cuts[-1] == channels
    assert all(reach[:, start:end].sum(1).max() < EXACT for start, end in pairwise(parts.cuts))


def test_sum_of_parts_is_the_sum_in_integers() -> None:
    random, x = numbers(6), grid(1.0, 0)
    module = frozen(nn.Linear(5000, 8), x, random, 2**28)
    values = random_codes(random, 4, 5000)
    module.param_quantizers["weight"].scale.fill_(1.0)
    levels = FORMULA(Call(called=module), (leveled(values, x),), None)
    exact = values.long() @ module.weight.long().T + module.bias.long()
    assert torch.equal(levels, exact.double().float())
    assert len(parts_of(module, weight_levels(module), None, 255).cuts) > 2
