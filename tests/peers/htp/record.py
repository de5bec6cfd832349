"""Record what HTP's simulator gives: python -m tests.peers.htp.record writes tests/arithmetic/htp_facts.json.

For random layers and sums it keeps, by channel, accumulators (without the bias) and the codes the simulator
made of them: mostly ones for which exact arithmetic gives another code, and a few ordinary ones.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import torch

from fxquant.arithmetic.htp import Generation
from tests.peers.htp.layers import STEPS, Layer, random_layer
from tests.peers.htp.models import QdqModel, fed, model_of, sum_model
from tests.peers.htp.simulator import run_on_htp

FACTS = Path(__file__).parents[2] / "arithmetic" / "htp_facts.json"
TELLING, ORDINARY = 24, 8
LAYERS = {
    "scale per channel": ([1, 32, 24, 24], [4, 32, 3, 3], {}),
    "many channels": ([1, 512, 16, 16], [3, 512, 3, 3], {}),
    "one scale": ([1, 16, 24, 24], [4, 16, 1, 1], {"is_per_channel": False}),
    "no bias": ([1, 16, 24, 24], [4, 16, 1, 1], {"has_bias": False}),
    "depthwise by two": ([1, 4, 160, 160], [4, 1, 3, 3], {"group": 4, "strides": [2, 2]}),
}
SUMS = {"Add": (0.0211, 37, 0.0173, 128, 0.0402, 90), "Sub": (0.0071, 0, 0.0113, 140, 0.0143, 120)}

Fact = dict[str, object]


def bias_fact() -> Fact:
    """Return codes of V75 that tell which bias it adds: those that the stored one would not give."""
    generator = torch.Generator().manual_seed(0)
    layer = Layer(
        op="Conv",
        weight=torch.ones(64, 1, 1, 1, dtype=torch.float64),
        bias=torch.randint(-100, 1500, (64,), generator=generator).double(),
        input_scale=torch.tensor(0.03),
        weight_scale=1.2 + 0.8 * torch.rand(64, generator=generator),  # 1/16 to 1/8 of an output step each
        output_scale=torch.tensor(0.5),
        input_zero=0,
        output_zero=0,
    )
    codes = torch.arange(STEPS + 1.0).double().reshape(1, 1, 16, 16)
    found = torch.from_numpy(run_on_htp(model_of([layer], list(codes.shape)), {"x": fed(codes)}, "V75"))
    assert layer.bias is not None
    stored = layer.sums(codes) + layer.bias.reshape(-1, 1, 1)
    unlike = replace(layer, bias=None).codes_of(stored, Generation.V73)
    return {"name": "bias", "architecture": "V75", **_described(layer, layer.sums(codes), found, unlike)}


def layer_facts(architecture: str) -> list[Fact]:
    """Return what an architecture makes of random layers."""
    facts = []
    for seed, (name, (shape, weight_shape, options)) in enumerate(LAYERS.items()):
        codes, layer = random_layer(torch.Generator().manual_seed(seed), shape, weight_shape, **options)  # type: ignore[arg-type]
        found = torch.from_numpy(run_on_htp(model_of([layer], shape), {"x": fed(codes)}, architecture))
        sums = layer.sums(codes)
        exact = layer.codes_of(sums, None)
        facts.append({"name": name, "architecture": architecture, **_described(layer, sums, found, exact)})
    return facts


def sum_facts(architecture: str) -> list[Fact]:
    """Return what an architecture makes of sums and differences."""
    facts = []
    codes = torch.arange(STEPS + 1.0)
    pairs = torch.cartesian_prod(codes, codes).T.reshape(2, 1, 16, 64, 64)
    for op, numbers in SUMS.items():
        scales, zeros = torch.tensor(numbers[::2]), torch.tensor(numbers[1::2])
        grids = [(float(scale), int(zero)) for scale, zero in zip(scales, zeros, strict=True)]
        model = sum_model(op, list(pairs.shape[1:]), grids)
        found = torch.from_numpy(run_on_htp(model, {"a": fed(pairs[0]), "b": fed(pairs[1])}, architecture))
        sign = 1 if op == "Add" else -1
        first, second = ((pairs[i] - zeros[i]).double() * scales[i].double() for i in (0, 1))
        exact = (((first + sign * second) / scales[2].double()).round() + zeros[2]).clamp(0, STEPS)
        picked = _picked((found != exact).flatten())
        columns = (*(operand.flatten()[picked] for operand in pairs), found.flatten()[picked])
        facts.append(
            {
                "name": op,
                "architecture": architecture,
                "scales": scales.tolist(),
                "zeros": zeros.tolist(),
                "first, second, code": torch.stack([column.int() for column in columns], 1).tolist(),
            }
        )
    return facts


def mean_fact() -> Fact:
    """Return what V75 makes of averages over 7 x 7."""
    scales, zeros, shape = torch.tensor([0.0312, 0.0297]), [100, 87], [1, 20_000, 7, 7]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-120, 121, (1, shape[1], 1, 1), generator=generator)
    codes = (torch.randint(0, STEPS + 1, shape, generator=generator) + images).clamp(0, STEPS).double()
    model = QdqModel({"x": shape})
    x = model.dequantized("x", float(scales[0]), zeros[0], "uint8")
    y = model.quantized(model.node("GlobalAveragePool", [x], "p"), float(scales[1]), zeros[1], "y")
    found = torch.from_numpy(run_on_htp(model.built(y), {"x": fed(codes)}, "V75")).flatten()
    total = (codes - zeros[0]).sum((2, 3)).flatten()
    exact = (total * (scales[0].double() / scales[1].double() / 49)).round() + zeros[1]
    picked = _picked(found != exact.clamp(0, STEPS))
    samples = torch.stack([total[picked].int(), found[picked].int()], 1).tolist()
    return {"scales": scales.tolist(), "output zero": zeros[1], "count": 49, "sum, code": samples}


def _described(layer: Layer, sums: torch.Tensor, found: torch.Tensor, unlike: torch.Tensor) -> Fact:
    samples = []
    for channel in range(sums.shape[1]):
        picked = _picked((found != unlike)[:, channel].flatten())
        column = sums[:, channel].flatten()[picked], found[:, channel].flatten()[picked]
        samples.append(torch.stack([part.int() for part in column], 1).tolist())
    return {
        "input scale": float(layer.input_scale),
        "weight scale": layer.weight_scale.tolist(),
        "output scale": float(layer.output_scale),
        "output zero": layer.output_zero,
        "bias": None if layer.bias is None else layer.bias.int().tolist(),
        "sum, code": samples,
    }


def _picked(is_telling: torch.Tensor) -> torch.Tensor:
    if not is_telling.any():
        return torch.zeros(0, dtype=torch.int64)
    telling, ordinary = is_telling.nonzero().flatten(), (~is_telling).nonzero().flatten()
    return torch.cat([telling[:TELLING], ordinary[:: max(1, len(ordinary) // ORDINARY)][:ORDINARY]])


def main() -> None:
    facts = {
        "layers": [*layer_facts("V75"), *layer_facts("V68"), bias_fact()],
        "sums": sum_facts("V75"),
        "mean": mean_fact(),
    }
    text = json.dumps(facts, indent=1)
    FACTS.write_text(_compact(text) + "\n", encoding="utf-8")


def _compact(text: str) -> str:
    """Put lists of numbers on one line, and lists of those, four to a line at most."""
    text = re.sub(r"\[\s+((?:-?[\d.e-]+,\s+)*-?[\d.e-]+)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return re.sub(r"((?:\[[^][]*\],\s+){3}\[[^][]*\])", lambda m: re.sub(r"\],\s+", "], ", m[1]), text)


if __name__ == "__main__":
    main()
