"""python -m benchmarks.htp_rule: compare HTP's simulator with its rule and with exact arithmetic.

Needs onnxruntime-qnn. Prints the tables, and writes them into the section "HTP" of docs/arithmetic.md.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.timing import Row, table_of
from fxquant.arithmetic.htp import Generation, mean_htp, requantize_htp
from fxquant.arithmetic.htp_bias import dropped_by_shift
from fxquant.arithmetic.htp_sum import sum_htp
from fxquant.quantization import AffineEncoding
from tests.peers.htp.chain import relu6_chain, simulated
from tests.peers.htp.layers import STEPS, Layer, random_layer
from tests.peers.htp.models import QdqModel, fed, model_of, sum_model
from tests.peers.htp.simulator import run_on_htp

DOCUMENT = Path(__file__).parent.parent / "docs" / "arithmetic.md"
BEGIN, END = "<!-- written by benchmarks.htp_rule -->", "<!-- end -->"
ARCHITECTURES = {"V75": Generation.V73, "V68": Generation.V68}
DEPTHS = (1, 5, 15, 29)

Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # codes of the HTP, of its rule, of exact arithmetic
Family = Callable[[torch.Generator, str], Drawn]


def weighted(shape: list[int], weight_shape: list[int], **options: object) -> Family:
    """Return a family of random layers with a weight."""

    def draw(generator: torch.Generator, architecture: str) -> Drawn:
        codes, layer = random_layer(generator, shape, weight_shape, **options)  # type: ignore[arg-type]
        found = run_on_htp(model_of([layer], shape), {"x": fed(codes)}, architecture)
        sums, generation = layer.sums(codes), ARCHITECTURES[architecture]
        return torch.from_numpy(found), layer.codes_of(sums, generation), layer.codes_of(sums, None)

    return draw


def product(zero: int) -> Family:
    """Return a family of products of two activations, the second with a given zero point."""

    def draw(generator: torch.Generator, architecture: str) -> Drawn:
        shapes = [1, 8, 64, 96], [1, 8, 96, 64]
        first, second = (torch.randint(0, STEPS + 1, shape, generator=generator).double() for shape in shapes)
        scales, first_zero = 0.005 + 0.04 * torch.rand(2, generator=generator), 100
        sums = (first - first_zero) @ (second - zero)
        real = sums * scales.double().prod()
        output = _grid_for(real)
        model = QdqModel({"a": shapes[0], "b": shapes[1]})
        grids = ("a", float(scales[0]), first_zero), ("b", float(scales[1]), zero)
        inputs = [model.dequantized(name, scale, point, "uint8") for name, scale, point in grids]
        product = model.quantized(model.node("MatMul", inputs, "p"), float(output.scale), _zero(output), "y")
        found = run_on_htp(model.built(product), {"a": fed(first), "b": fed(second)}, architecture)
        levels = requantize_htp(sums, *scales, output, generation=ARCHITECTURES[architecture])
        return torch.from_numpy(found), levels - output.offset, _exact(real, output)

    return draw


def sums(op: str) -> Family:
    """Return a family of all sums or differences of two codes, on random grids."""

    def draw(generator: torch.Generator, architecture: str) -> Drawn:
        codes = torch.arange(STEPS + 1.0)
        first, second = (grid.reshape(1, 16, 64, 64) for grid in torch.meshgrid(codes, codes, indexing="ij"))
        scales = 0.005 + 0.04 * torch.rand(2, generator=generator)
        zeros = torch.randint(0, STEPS, (2,), generator=generator)
        grids = [
            AffineEncoding(scale, -zero.float(), 0, STEPS) for scale, zero in zip(scales, zeros, strict=True)
        ]
        one, other = (
            (codes + grid.offset).double() * grid.scale.double()
            for codes, grid in zip((first, second), grids, strict=True)
        )
        real = one + other if op == "Add" else one - other
        output = _grid_for(real)
        described = [(float(grid.scale), _zero(grid)) for grid in (*grids, output)]
        model = sum_model(op, list(first.shape), described)
        found = run_on_htp(model, {"a": fed(first), "b": fed(second)}, architecture)
        levels = sum_htp(first, grids[0], second, grids[1], output, is_difference=op == "Sub")
        return torch.from_numpy(found), levels - output.offset, _exact(real, output)

    return draw


def average_pool(generator: torch.Generator, architecture: str) -> Drawn:
    """Return codes of a 3 x 3 average pool with a stride of 1."""
    shape = [1, 64, 24, 24]
    codes = torch.randint(0, STEPS + 1, shape, generator=generator).double()
    scale, zero = 0.01 + 0.04 * torch.rand(1, generator=generator)[0], 100
    total = torch.nn.functional.avg_pool2d(codes - zero, 3, 1, divisor_override=1).round()
    real = total / 9 * scale.double()
    output = _grid_for(real)
    model = QdqModel({"x": shape})
    x = model.dequantized("x", float(scale), zero, "uint8")
    pooled = model.node("AveragePool", [x], "p", kernel_shape=[3, 3])
    y = model.quantized(pooled, float(output.scale), _zero(output), "y")
    found = run_on_htp(model.built(y), {"x": fed(codes)}, architecture)
    generation = ARCHITECTURES[architecture]
    levels = requantize_htp(total, scale, torch.tensor(1 / 9), output, generation=generation)
    return torch.from_numpy(found), levels - output.offset, _exact(real, output)


def global_average_pool(generator: torch.Generator, architecture: str) -> Drawn:
    """Return codes of an average over images of 7 x 7, whose levels differ from image to image."""
    shape = [1, 32_768, 7, 7]
    images = torch.randint(-120, 121, (1, shape[1], 1, 1), generator=generator)
    codes = (torch.randint(0, STEPS + 1, shape, generator=generator) + images).clamp(0, STEPS).double()
    scale, zero = 0.01 + 0.04 * torch.rand(1, generator=generator)[0], 100
    total = (codes - zero).sum((2, 3), keepdim=True)
    real = total / 49 * scale.double()
    output = _grid_for(real)
    model = QdqModel({"x": shape})
    x = model.dequantized("x", float(scale), zero, "uint8")
    y = model.quantized(model.node("GlobalAveragePool", [x], "p"), float(output.scale), _zero(output), "y")
    found = run_on_htp(model.built(y), {"x": fed(codes)}, architecture)
    levels = mean_htp(total, 49, scale, output)
    return torch.from_numpy(found), levels - output.offset, _exact(real, output)


FAMILIES: dict[str, Family] = {
    "Conv 1x1": weighted([1, 32, 24, 24], [64, 32, 1, 1]),
    "Conv 3x3": weighted([1, 32, 24, 24], [64, 32, 3, 3], pads=[1] * 4),
    "Conv 3x3, one weight scale": weighted([1, 32, 24, 24], [64, 32, 3, 3], is_per_channel=False),
    "Conv 3x3, no bias": weighted([1, 32, 24, 24], [64, 32, 3, 3], has_bias=False),
    "Conv 7x7, stride 2": weighted([1, 3, 64, 64], [64, 3, 7, 7], pads=[3] * 4, strides=[2, 2]),
    "Conv 3x3, dilation 2": weighted([1, 32, 24, 24], [64, 32, 3, 3], dilations=[2, 2]),
    "Conv 3x3, 4 groups": weighted([1, 64, 24, 24], [64, 16, 3, 3], group=4),
    "Conv 3x3, 512 channels": weighted([1, 512, 18, 18], [128, 512, 3, 3]),
    "depthwise 3x3": weighted([1, 64, 24, 24], [64, 1, 3, 3], group=64),
    "depthwise 3x3, stride 2": weighted([1, 64, 48, 48], [64, 1, 3, 3], group=64, strides=[2, 2]),
    "depthwise 5x5, stride 2": weighted([1, 64, 48, 48], [64, 1, 5, 5], group=64, strides=[2, 2]),
    "ConvTranspose 3x3, stride 2": weighted(
        [1, 32, 16, 16], [32, 32, 3, 3], op="ConvTranspose", strides=[2, 2]
    ),
    "Gemm": weighted([128, 256], [256, 256], op="Gemm"),
    "MatMul with a weight": weighted([2, 64, 256], [256, 256], op="MatMul", has_bias=False),
    "MatMul, second zero point 128": product(128),
    "MatMul, second zero point 120": product(120),
    "Add": sums("Add"),
    "Sub": sums("Sub"),
    "AveragePool 3x3, stride 1": average_pool,
    "GlobalAveragePool": global_average_pool,
}


def compare_families(rounds: int = 4) -> list[Row]:
    """Return one row per family and architecture: shares of outputs that differ from the simulator's."""
    return [
        _compared(name, family, architecture, rounds)
        for name, family in FAMILIES.items()
        for architecture in ARCHITECTURES
    ]


def measure_drift(*, is_centered: bool = False) -> list[Row]:
    """Return one row per architecture and depth of a chain of conv-relu6.

    Args:
        is_centered: Whether the biases of the model that the HTP runs make up for what V68 drops.
    """
    rows = []
    for architecture, generation in ARCHITECTURES.items():
        if is_centered and generation is not Generation.V68:
            continue
        for depth in DEPTHS:
            codes, layers = relu6_chain(torch.Generator().manual_seed(0), depth)
            run = [centered(layer) for layer in layers] if is_centered else layers
            found = run_on_htp(model_of(run, list(codes.shape)), {"x": fed(codes)}, architecture)
            htp = torch.from_numpy(found).double()
            exact, rule = simulated(codes, layers, None), simulated(codes, run, generation)
            rows.append(
                {
                    "HTP": architecture,
                    "layers": str(depth),
                    "differ from exact arithmetic": _share(htp, exact),
                    "by at most": f"{float((htp - exact).abs().max()):.0f}",
                    "mean difference": f"{float((htp - exact).mean()):+.3f}",
                    "differ from the rule": _share(htp, rule),
                }
            )
    return rows


def centered(layer: Layer) -> Layer:
    """Return a layer whose bias makes up for what V68 drops."""
    assert layer.bias is not None
    dropped = dropped_by_shift(layer.input_scale, layer.weight_scale, layer.output_scale)
    return replace(layer, bias=layer.bias + dropped)


def _compared(name: str, family: Family, architecture: str, rounds: int) -> Row:
    total = wrong = inexact = 0
    for seed in range(rounds):
        htp, rule, exact = family(torch.Generator().manual_seed(seed), architecture)
        total += htp.numel()
        wrong += int((htp != rule).sum())
        inexact += int((htp != exact).sum())
    return {
        "op": name,
        "HTP": architecture,
        "outputs": f"{total:,}",
        "differ from exact arithmetic": f"{inexact / total:.2%}",
        "differ from the rule": str(wrong) if wrong < total / 1000 else f"{wrong / total:.2%}",
    }


def _share(found: torch.Tensor, expected: torch.Tensor) -> str:
    return f"{float((found != expected).double().mean()):.2%}"


def _grid_for(real: torch.Tensor) -> AffineEncoding:
    low, high = real.quantile(0.01).clamp_max(0), real.quantile(0.99).clamp_min(0)
    scale = ((high - low) / STEPS).float()
    return AffineEncoding(scale, (low / scale).round().float(), 0, STEPS)


def _zero(encoding: AffineEncoding) -> int:
    return -int(encoding.offset)


def _exact(real: torch.Tensor, output: AffineEncoding) -> torch.Tensor:
    return ((real / output.scale.double()).round() - output.offset).clamp(0, STEPS)


def main() -> None:
    """Print the tables and write them."""
    torch.set_num_threads(1)
    parts = [
        table_of(compare_families()),
        "A chain of conv-relu6 on 32 channels of 64 x 64:",
        table_of(measure_drift()),
        "The same with V68's drop made up for in the biases of the file:",
        table_of(measure_drift(is_centered=True)),
    ]
    text = "\n\n".join(parts)
    print(text)
    document = DOCUMENT.read_text(encoding="utf-8")
    head, rest = document.split(BEGIN)
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
