from typing import Any

import pytest
import torch

from fxquant.quantization import QuantizationSpec
from fxquant.quantization.float.float_type import FLOAT8_E4M3FN
from fxquant.quantization.given import Given, widest
from fxquant.quantization.given_range import refusal, set_given_range
from fxquant.quantization.of_spec import quantizer_of

PER_CHANNEL = torch.tensor([0.5, 1.0, 2.0]).reshape(3, 1)


def scale_of(spec: QuantizationSpec, given: Given, shape: tuple[int, ...] = ()) -> Any:
    quantizer = quantizer_of(spec, shape)
    set_given_range(quantizer, given)
    return quantizer.get_scale()


@pytest.mark.parametrize("amax", [1e-3, 0.1, 3.14159, 127.0, 1e4])
@pytest.mark.parametrize(
    ("spec", "lowest"),
    [
        pytest.param(QuantizationSpec(), -128, id="int8"),
        pytest.param(QuantizationSpec(narrow=True), -127, id="narrow int8"),
        pytest.param(QuantizationSpec(signed=False, symmetric=False), -128, id="uint8"),
        pytest.param(QuantizationSpec(signed=False), -128, id="uint8 with zero in the middle"),
    ],
)
def test_values_are_those_of_the_given_steps(spec: QuantizationSpec, lowest: int, amax: float) -> None:
    quantizer = quantizer_of(spec)
    set_given_range(quantizer, Given(amax=torch.tensor(amax)))
    step = torch.tensor(amax) / 127
    x = torch.linspace(-1.2 * amax, 1.2 * amax, 2001)
    expected = (x / step).round().clamp(lowest, 127) * step
    torch.testing.assert_close(quantizer(x).detach(), expected, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_range_of_as_many_bits_keeps_its_steps(bits: int) -> None:
    given = Given(amax=torch.tensor(3.0), bitwidth=bits)
    scale = scale_of(QuantizationSpec(bitwidth=bits), given)
    assert scale.item() == torch.tensor(3.0).div(2 ** (bits - 1) - 1).item()


def test_channel_of_zeros_gets_a_step_that_a_quantizer_can_have() -> None:
    amax = torch.tensor([0.0, 1.0]).reshape(2, 1)
    scale = scale_of(QuantizationSpec(channel_axis=0), Given(amax=amax), (2, 5))
    assert scale.flatten().tolist() == [torch.finfo(torch.float32).eps, torch.tensor(1.0).div(127).item()]


def test_ranges_of_channels_stay_apart() -> None:
    scale = scale_of(QuantizationSpec(channel_axis=0), Given(amax=PER_CHANNEL), (3, 5))
    torch.testing.assert_close(scale, PER_CHANNEL / 127, atol=0.0, rtol=0.0)


def test_one_range_serves_all_channels() -> None:
    scale = scale_of(QuantizationSpec(channel_axis=0), Given(amax=torch.tensor(2.0)), (3, 5))
    torch.testing.assert_close(scale, torch.full((3, 1), 2.0 / 127))


@pytest.mark.parametrize(
    ("axis", "shape"),
    [pytest.param(None, (), id="per tensor"), pytest.param(1, (3, 5), id="another axis")],
)
def test_widest_range_serves_where_channels_are_not_kept_apart(axis: int, shape: tuple[int, ...]) -> None:
    quantizer = quantizer_of(QuantizationSpec(channel_axis=axis), shape)
    words = set_given_range(quantizer, Given(amax=PER_CHANNEL))
    assert words == "the widest of its ranges is kept"
    assert bool((quantizer.get_scale() == torch.tensor(2.0) / 127).all())  # type: ignore[union-attr]  # set above


def test_float_type_gets_the_range_as_its_largest_number() -> None:
    spec = QuantizationSpec(float_type=FLOAT8_E4M3FN)
    quantizer = quantizer_of(spec)
    words = set_given_range(quantizer, Given(amax=torch.tensor(3.5)))
    assert "as the largest number of" in words
    assert quantizer.maxval.item() == 3.5
    assert quantizer.has_range()


@pytest.mark.parametrize(
    ("given", "spec", "reason"),
    [
        pytest.param(Given(), QuantizationSpec(), "had no range", id="dynamic"),
        pytest.param(Given(amax=torch.tensor(torch.nan)), QuantizationSpec(), "not finite", id="nan"),
        pytest.param(
            Given(amax=torch.tensor(1.0)),
            QuantizationSpec(fixed_range=(0.0, 1.0)),
            "the op fixes",
            id="fixed",
        ),
    ],
)
def test_quantizer_that_cannot_have_the_range_says_why(
    given: Given, spec: QuantizationSpec, reason: str
) -> None:
    assert reason in refusal(quantizer_of(spec), given)


def test_blocks_keep_their_own_ranges() -> None:
    spec = QuantizationSpec(bitwidth=4, channel_axis=0, block_size=2)
    assert "in blocks" in refusal(quantizer_of(spec, (4, 4)), Given(amax=torch.tensor(1.0)))


def test_widest_of_two_takes_the_larger_of_each_channel() -> None:
    both = widest(Given(amax=PER_CHANNEL), Given(amax=PER_CHANNEL.flip(0), bitwidth=4, signed=False))
    assert both.amax is not None
    assert both.amax.flatten().tolist() == [2.0, 1.0, 2.0]
    assert (both.bitwidth, both.signed) == (8, True)


@pytest.mark.parametrize(
    "other", [Given(), Given(amax=torch.tensor(9.0), is_on=False)], ids=["dynamic", "off"]
)
def test_widest_passes_over_a_quantizer_that_has_no_say(other: Given) -> None:
    own = Given(amax=torch.tensor(1.0))
    assert widest(own, other) is own
    assert widest(other, own) is own
