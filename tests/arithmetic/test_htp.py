"""HTP's rule against codes that its simulator gave, recorded by tests.peers.htp.record; and live."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fxquant.arithmetic.htp import Generation, htp_multiplier, mean_htp, requantize_htp, requantize_htp_vector
from fxquant.arithmetic.htp_bias import dropped_by_shift, kept_bias
from fxquant.arithmetic.htp_input import input_levels
from fxquant.arithmetic.htp_sum import sum_htp
from fxquant.quantization import AffineEncoding

FACTS = json.loads((Path(__file__).parent / "htp_facts.json").read_text(encoding="utf-8"))
GENERATIONS = {"V75": Generation.V73, "V68": Generation.V68}
LAYERS = {f"{fact['name']}, {fact['architecture']}": fact for fact in FACTS["layers"]}
SUMS = {fact["name"]: fact for fact in FACTS["sums"]}

Fact = dict[str, Any]


def grid(scale: torch.Tensor, zero: float) -> AffineEncoding:
    return AffineEncoding(scale, torch.tensor(-float(zero)), 0, 255)


def rule_and_recorded(fact: Fact, channel: int) -> tuple[torch.Tensor, torch.Tensor]:
    input_scale, weight_scale = torch.tensor(fact["input scale"]), torch.tensor(fact["weight scale"])
    output = grid(torch.tensor(fact["output scale"]), fact["output zero"])
    sums, recorded = torch.tensor(fact["sum, code"][channel]).double().unbind(1)
    is_vector, generation = fact["name"] == "depthwise by two", GENERATIONS[fact["architecture"]]
    total = torch.zeros(len(sums), weight_scale.numel(), dtype=torch.float64) + sums[:, None]
    if fact["bias"] is not None:
        bias = torch.tensor(fact["bias"]).double()
        keeps_all = is_vector or generation is Generation.V68
        total = total + (bias if keeps_all else kept_bias(bias, input_scale, weight_scale))
    if is_vector:
        levels = requantize_htp_vector(total, input_scale, weight_scale, output)
    else:
        levels = requantize_htp(total, input_scale, weight_scale, output, generation=generation)
    column = levels[:, channel] if levels.shape[1] > channel else levels[:, 0]
    return column + fact["output zero"], recorded


def channels_of(fact: Fact) -> list[int]:
    return [channel for channel, samples in enumerate(fact["sum, code"]) if samples]


@pytest.mark.parametrize("name", LAYERS)
def test_the_rule_gives_the_recorded_codes(name: str) -> None:
    fact = LAYERS[name]
    assert channels_of(fact)
    for channel in channels_of(fact):
        rule, recorded = rule_and_recorded(fact, channel)
        assert rule.tolist() == recorded.tolist()


@pytest.mark.parametrize("name", SUMS)
def test_sums_have_the_recorded_codes(name: str) -> None:
    fact = SUMS[name]
    first, second, recorded = torch.tensor(fact["first, second, code"]).double().unbind(1)
    grids = [grid(torch.tensor(s), zero) for s, zero in zip(fact["scales"], fact["zeros"], strict=True)]
    levels = sum_htp(first, grids[0], second, grids[1], grids[2], is_difference=name == "Sub")
    assert (levels + fact["zeros"][2]).tolist() == recorded.tolist()


def test_means_have_the_recorded_codes() -> None:
    fact = FACTS["mean"]
    total, recorded = torch.tensor(fact["sum, code"]).double().unbind(1)
    scale, output_scale = torch.tensor(fact["scales"])
    levels = mean_htp(total, fact["count"], scale, grid(output_scale, fact["output zero"]))
    assert (levels + fact["output zero"]).tolist() == recorded.tolist()


@pytest.mark.parametrize("generation", Generation)
def test_codes_never_fall_as_the_accumulator_grows(generation: Generation) -> None:
    accumulator = torch.arange(-40_000.0, 300_000.0)
    output = grid(torch.tensor(0.4), 17)
    levels = requantize_htp(
        accumulator, torch.tensor(0.03), torch.tensor(0.0123), output, generation=generation
    )
    assert bool((levels.diff() >= 0).all())
    assert levels[0] == -17
    assert levels[-1] == 255 - 17


def test_a_multiplier_that_is_a_power_of_two_and_needs_no_shift_is_exact() -> None:
    accumulator = torch.arange(-100.0, 3000.0)
    output = grid(torch.tensor(1.0), 5)
    levels = requantize_htp(
        accumulator, torch.tensor(0.25), torch.tensor(0.25), output, generation=Generation.V68
    )
    assert torch.equal(levels, (accumulator / 16 + 0.5).floor().clamp(-5, 250))


def test_a_bias_is_kept_or_one_step_nearer_to_zero() -> None:
    bias = torch.randint(-2_000_000, 2_000_000, (4000,)).double()
    kept = kept_bias(bias, torch.tensor(0.0137), 0.001 + 0.01 * torch.rand(4000))
    lost = bias.abs() - kept.abs()
    assert set(lost.tolist()) == {0.0, 1.0}
    assert torch.equal(kept_bias(torch.zeros(3), torch.tensor(0.1), torch.ones(3)), torch.zeros(3).double())


def test_biases_that_make_up_for_the_shift_take_away_the_mean_error_of_v68() -> None:
    input_scale, output = torch.tensor(0.02), grid(torch.tensor(0.9), 128)
    weight_scale = 0.002 + 0.006 * torch.rand(512)
    multiplier = htp_multiplier(input_scale, weight_scale, output.scale)
    accumulator = ((torch.rand(2000, 512) - 0.5) * 200 / multiplier).round()
    exact = accumulator * multiplier
    dropped = dropped_by_shift(input_scale, weight_scale, output.scale)

    def mean_error(bias: torch.Tensor | float) -> float:
        total = accumulator + bias
        levels = requantize_htp(total, input_scale, weight_scale, output, generation=Generation.V68)
        return float((levels - exact).mean())

    # What is left comes from the 10 bits kept of a multiplier: the zero point is off by up to 128 / 2^11
    # steps, differently in each channel, so that the mean over 512 of them deviates by 0.0016 steps.
    assert mean_error(0.0) < -0.03
    assert abs(mean_error(dropped)) < 0.006


@pytest.mark.htp
@pytest.mark.parametrize("architecture", GENERATIONS)
@pytest.mark.parametrize(
    ("shape", "weight_shape", "options"),
    [
        pytest.param([1, 32, 16, 16], [64, 32, 3, 3], {"pads": [1] * 4}, id="conv"),
        pytest.param([1, 32, 16, 16], [64, 32, 1, 1], {"is_per_channel": False}, id="one-weight-scale"),
        pytest.param([1, 16, 24, 24], [16, 1, 3, 3], {"group": 16}, id="depthwise"),
        pytest.param([1, 16, 64, 64], [16, 1, 3, 3], {"group": 16, "strides": [2, 2]}, id="depthwise-by-two"),
        pytest.param([64, 128], [256, 128], {"op": "Gemm"}, id="gemm"),
        pytest.param([1, 64, 128], [128, 256], {"op": "MatMul", "has_bias": False}, id="matmul"),
        pytest.param(
            [1, 32, 8, 8], [32, 32, 3, 3], {"op": "ConvTranspose", "strides": [2, 2]}, id="transposed"
        ),
    ],
)
def test_a_layer_on_the_simulator_gives_the_codes_of_the_rule(
    architecture: str, shape: list[int], weight_shape: list[int], options: dict[str, Any]
) -> None:
    from tests.peers.htp.layers import random_layer
    from tests.peers.htp.models import fed, model_of
    from tests.peers.htp.simulator import run_on_htp

    codes, layer = random_layer(torch.Generator().manual_seed(11), shape, weight_shape, **options)
    found = torch.from_numpy(run_on_htp(model_of([layer], shape), {"x": fed(codes)}, architecture))
    sums = layer.sums(codes)
    wrong = int((found != layer.codes_of(sums, GENERATIONS[architecture])).sum())
    exact = int((found != layer.codes_of(sums, None)).sum())
    # Two outputs in a million of V68 differ: where the zero point, a large number in steps of the
    # accumulator, ends in a half.
    assert wrong <= (1 if architecture == "V68" else 0)
    assert exact > wrong


@pytest.mark.htp
@pytest.mark.parametrize("architecture", GENERATIONS)
def test_nothing_differs_behind_a_chain_of_convolutions(architecture: str) -> None:
    from tests.peers.htp.chain import relu6_chain, simulated
    from tests.peers.htp.models import fed, model_of
    from tests.peers.htp.simulator import run_on_htp

    codes, layers = relu6_chain(torch.Generator().manual_seed(3), 5, size=12, channels=16)
    found = run_on_htp(model_of(layers, list(codes.shape)), {"x": fed(codes)}, architecture)
    htp = torch.from_numpy(found).double()
    assert torch.equal(simulated(codes, layers, GENERATIONS[architecture]), htp)
    assert not torch.equal(simulated(codes, layers, None), htp)


@pytest.mark.htp
@pytest.mark.parametrize("architecture", GENERATIONS)
def test_a_float_input_passes_through_half(architecture: str) -> None:
    from tests.peers.htp.models import input_model
    from tests.peers.htp.simulator import run_on_htp

    x, scale, zero = 1.5 * torch.randn(1, 3, 64, 64), 0.0173, 100
    found = torch.from_numpy(
        run_on_htp(input_model(list(x.shape), scale, zero), {"x": x.numpy()}, architecture)
    )
    levels = input_levels(x, grid(torch.tensor(scale), zero))
    assert torch.equal(levels + zero, found.float())
    exact = (x / torch.tensor(scale)).round().clamp(-zero, 255 - zero)
    assert not torch.equal(levels, exact)
