"""The range with the least squared error, and that error."""

import pytest
import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import MinMaxEncodingAnalyzer
from fxquant.quantization.encoding_analyzer import HistogramObserver, MseEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.squared_error import squared_error
from fxquant.quantization.functional import quantize_dequantize, scale_and_offset

symmetric_and_not = pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])


def _error(x: torch.Tensor, ends: tuple[torch.Tensor, torch.Tensor], n: int, is_symmetric: bool) -> float:
    """Return the squared error that a grid over ``ends`` really makes on x, in float64."""
    qmin = n // 2 - n if is_symmetric else 0
    scale, offset = scale_and_offset(ends[0].double(), ends[1].double(), qmin, qmin + n, is_symmetric)
    return (quantize_dequantize(x.double(), scale, offset, qmin, qmin + n) - x).square().mean().item()


@symmetric_and_not
@pytest.mark.parametrize("num_steps", [3, 15, 255, 65535])
@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-1.0, 0.5), (-0.3, 2.9), (-8.0, 9.0)])
def test_the_error_is_that_of_quantizing_values_spread_evenly(
    is_symmetric: bool, num_steps: int, low: float, high: float
) -> None:
    edges = torch.linspace(-4, 4, 33, dtype=torch.float64)
    counts = torch.rand(1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round(
        decimals=2
    )
    ends = torch.tensor([[low]], dtype=torch.float64), torch.tensor([[high]], dtype=torch.float64)
    found = squared_error(edges[None], counts / 0.25, *ends, num_steps, is_symmetric).item()
    points = 20000
    spread = (edges[:-1, None] + 0.25 * (torch.arange(points) + 0.5) / points).flatten()
    weights = counts[0].repeat_interleave(points) / points
    qmin = num_steps // 2 - num_steps if is_symmetric else 0
    scale = (ends[1] - ends[0])[0] / num_steps
    offset = torch.zeros(1) if is_symmetric else torch.round(ends[0][0] / scale)
    rounded = quantize_dequantize(spread, scale, offset, qmin, qmin + num_steps)
    # the midpoint rule at 20000 points a bin; 2^16 steps are as coarse as 8 points each
    expected = ((rounded - spread).square() * weights).sum().item()
    assert found == pytest.approx(expected, rel=0.05 if num_steps == 65535 else 1e-3)


@symmetric_and_not
@pytest.mark.parametrize("num_steps", [3, 15, 255])
@pytest.mark.parametrize("shape", ["normal", "laplace", "relu", "outlier", "shifted"])
def test_it_errs_less_than_min_max_and_no_more_than_a_fine_search(
    is_symmetric: bool, num_steps: int, shape: str
) -> None:
    x = _data(shape)
    found, widest = (
        _fit(kind, x).compute_encodings(num_steps, is_symmetric)
        for kind in (MseEncodingAnalyzer, MinMaxEncodingAnalyzer)
    )
    error = _error(x, found, num_steps, is_symmetric)
    assert error <= _error(x, widest, num_steps, is_symmetric) * 1.001
    # 3 %: the analyzer's search is local, sees bins and not values, and at 2 bits the error is rugged.
    bound = x.abs().max() if is_symmetric else x.max()
    low = -bound if is_symmetric else found[0]
    tried = [bound * i / 200 for i in range(1, 201)]
    best = min(
        _error(x, ((low * t / bound) if is_symmetric else low, t), num_steps, is_symmetric)
        for t in tried
        if t > 0
    )
    assert error <= best * 1.03


def _data(shape: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, generator=generator)
    return {
        "normal": x,
        "laplace": x.sign() * x.abs().exp(),
        "relu": x.relu(),
        "outlier": torch.cat((x, torch.tensor([30.0]))),
        "shifted": x * 0.1 + 1.0,
    }[shape]


def _fit(
    kind: type[MseEncodingAnalyzer | MinMaxEncodingAnalyzer], x: torch.Tensor
) -> MseEncodingAnalyzer | MinMaxEncodingAnalyzer:
    analyzer = kind(())
    analyzer.update_stats(x)
    return analyzer


@symmetric_and_not
def test_even_data_is_covered_whole(is_symmetric: bool) -> None:
    x = torch.linspace(-1, 1, 100_001)
    minimum, maximum = _fit(MseEncodingAnalyzer, x).compute_encodings(255, is_symmetric)
    # a step or two may be clipped
    assert minimum.item() == pytest.approx(-1, abs=3 / 255)
    assert maximum.item() == pytest.approx(1, abs=3 / 255)


@symmetric_and_not
def test_zeros_do_not_matter(is_symmetric: bool) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs()
    with_zeros = torch.cat((x, torch.zeros(100_000)))
    found, expected = (
        _fit(MseEncodingAnalyzer, t).compute_encodings(15, is_symmetric) for t in (with_zeros, x)
    )
    assert torch.equal(found[1], expected[1])


def test_too_few_bins_are_an_error() -> None:
    with pytest.raises(OptionError):
        MseEncodingAnalyzer((), 8)


def test_other_histograms_are_refused() -> None:
    stats = HistogramObserver((), num_bins=64).collect_stats(torch.randn(9))
    with pytest.raises(QuantizerError, match="not exact"):
        MseEncodingAnalyzer(()).compute_encodings_from_stats(stats, 255, True)
