"""Min-max calibration: what is observed, and the range that covers it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.errors import NotCalibratedError, QuantizerError
from fxquant.quantization import EncodingAnalyzer, MinMaxEncodingAnalyzer
from fxquant.quantization.encoding_analyzer import cover, reduce_to_shape
from fxquant.quantization.functional import smallest_scale
from tests.quantization.strategies import matrices, ranges

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
EPS = torch.finfo(torch.float32).eps
LARGEST = torch.finfo(torch.float32).max
INF = float("inf")


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)], ids=["per-tensor", "one-channel", "per-channel"])
@settings(max_examples=50)
@given(
    tensor=matrices(3),
    dtype=st.sampled_from(DTYPES),
    cuts=st.lists(st.integers(0, 8), max_size=3),
    is_symmetric=st.booleans(),
)
def test_chunked_calibration_equals_whole(
    shape: tuple[int, ...], tensor: torch.Tensor, dtype: torch.dtype, cuts: list[int], is_symmetric: bool
) -> None:
    whole = tensor.to(dtype)
    chunks = reversed(whole.tensor_split(sorted(cuts), dim=1))
    found = _observed(shape, *chunks).compute_encodings(255, is_symmetric)
    expected = _observed(shape, whole).compute_encodings(255, is_symmetric)
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize(
    ("shape", "reduced"),
    [
        ((), (0, 1, 2, 3, 4)),
        ((1, 1, 1, 1), (0, 1, 2, 3, 4)),
        ((2, 1, 1, 1), (1, 2, 3, 4)),
        ((3, 1, 1), (0, 2, 3, 4)),
        ((1, 3, 1, 5), (0, 2, 4)),
        ((2, 3, 4, 5), (4,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_reduction_keeps_the_axes_of_the_shape(
    shape: tuple[int, ...], reduced: tuple[int, ...], layout: torch.memory_format
) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=layout)
    minimum, maximum = reduce_to_shape(x, shape)
    with_unit_axis = x.unsqueeze(4)  # an axis to reduce also where the shape keeps all four
    assert torch.equal(minimum, with_unit_axis.amin(reduced).reshape(shape))
    assert torch.equal(maximum, with_unit_axis.amax(reduced).reshape(shape))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1), (3, 1)], ids=str)
def test_a_shape_that_does_not_fit_is_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantizerError, match="do not fit a tensor of shape"):
        reduce_to_shape(torch.randn(2, 4), shape)


@given(bounds=ranges(), num_steps=st.integers(4, 2**16 - 1), is_symmetric=st.booleans())
def test_the_covered_range_holds_what_was_seen(
    bounds: tuple[float, float], num_steps: int, is_symmetric: bool
) -> None:
    low, high = (torch.tensor(bound) for bound in bounds)
    minimum, maximum = cover(low, high, num_steps, is_symmetric)
    # A symmetric end is (bound / steps) * steps: two roundings of half an eps each.
    assert minimum <= low * (1 - EPS)
    assert maximum >= high * (1 - EPS)


@given(bounds=ranges(), num_steps=st.integers(2, 2**16 - 1))
def test_a_symmetric_range_has_the_proportions_of_its_grid(
    bounds: tuple[float, float], num_steps: int
) -> None:
    minimum, maximum = cover(*(torch.tensor(bound) for bound in bounds), num_steps, is_symmetric=True)
    # Each end is one product, rounded by half an eps.
    below, above = num_steps - num_steps // 2, num_steps // 2
    assert -minimum.item() / below == pytest.approx(maximum.item() / above, rel=EPS)


@pytest.mark.parametrize(
    ("is_symmetric", "num_steps", "low", "high", "expected"),
    [
        (True, 255, -1.0, 2.0, (-2.015748, 2.0)),
        (True, 255, -2.0, 1.0, (-2.0, 1.984375)),
        (True, 254, -1.0, 2.0, (-2.0, 2.0)),
        (True, 15, -1.0, 1.0, (-1.1428572, 1.0)),
        (True, 3, -1.0, 1.0, (-1.0, 0.5)),
        (True, 255, 0.0, 0.0, (-1.5258789e-05, 1.513958e-05)),
        (False, 255, 0.5, 1.0, (0.0, 1.0)),
        (False, 255, -1.0, -0.5, (-1.0, 0.0)),
        (False, 255, 0.0, 0.0, (0.0, 3.0398369e-05)),
        (False, 255, -1e-6, 1e-6, (-1e-6, -1e-6 + 3.0398369e-05)),
        (False, 255, 0.0, INF, (0.0, LARGEST / 4)),
        (False, 255, -INF, 0.0, (-LARGEST / 4, 0.0)),
    ],
)
def test_covered_ranges_match_the_golden_values(
    is_symmetric: bool, num_steps: int, low: float, high: float, expected: tuple[float, float]
) -> None:
    covered = cover(torch.tensor(low), torch.tensor(high), num_steps, is_symmetric)
    # 2 eps: the golden values are printed with 8 digits, which is half an eps, and computed with 3 roundings.
    assert [bound.item() for bound in covered] == pytest.approx(expected, rel=2 * EPS)


@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_infinite_ends_give_a_range_of_finite_width(is_symmetric: bool) -> None:
    minimum, maximum = cover(torch.tensor(-INF), torch.tensor(INF), 255, is_symmetric)
    assert (maximum - minimum).isfinite()


@pytest.mark.parametrize("num_steps", [3, 15, 255, 2**16 - 1], ids=str)
@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_a_channel_of_zeros_gets_the_smallest_scale(num_steps: int, is_symmetric: bool) -> None:
    minimum, maximum = cover(torch.zeros(2), torch.tensor([0.0, 1.0]), num_steps, is_symmetric)
    width = (maximum - minimum)[0].item()
    assert width == pytest.approx(
        smallest_scale(num_steps) * num_steps, rel=2 * EPS
    )  # two ends, one rounding each


def test_calibrating_without_data_is_an_error() -> None:
    with pytest.raises(NotCalibratedError, match="No tensor was observed"):
        MinMaxEncodingAnalyzer(()).compute_encodings(255, is_symmetric=False)


def test_an_empty_tensor_is_not_observed() -> None:
    assert _observed((3, 1), torch.empty(3, 0)).observed_range is None


def test_reset_forgets_what_was_observed() -> None:
    analyzer = _observed((), torch.tensor([-5.0, 5.0]))
    analyzer.reset_stats()
    analyzer.update_stats(torch.tensor([-1.0, 2.0]))
    assert [bound.item() for bound in analyzer.observed_range] == [-1.0, 2.0]


def test_the_observed_range_may_lie_on_one_side_of_zero() -> None:
    analyzer = _observed((), torch.tensor([0.5, 1.0]))
    assert [bound.item() for bound in analyzer.observed_range] == [0.5, 1.0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_range_is_float32_and_without_a_graph(dtype: torch.dtype) -> None:
    analyzer = _observed((3, 1), torch.randn(3, 4, dtype=dtype, requires_grad=True))
    minimum, _ = analyzer.compute_encodings(255, is_symmetric=True)
    assert (minimum.dtype, minimum.shape, minimum.requires_grad) == (torch.float32, (3, 1), False)


def test_an_analyzer_must_say_how_it_works() -> None:
    with pytest.raises(TypeError, match="abstract"):
        EncodingAnalyzer(())


def _observed(shape: tuple[int, ...], *tensors: torch.Tensor) -> MinMaxEncodingAnalyzer:
    analyzer = MinMaxEncodingAnalyzer(shape)
    for tensor in tensors:
        analyzer.update_stats(tensor)
    return analyzer
