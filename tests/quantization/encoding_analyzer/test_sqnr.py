"""The search for the grid with the least noise."""

import pytest
import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.encoding_analyzer import (
    HistogramObserver,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
    noise,
)
from fxquant.quantization.encoding_analyzer.noise import expected_noise
from fxquant.quantization.functional import quantize_dequantize


def _range(
    analyzer: SqnrEncodingAnalyzer, x: torch.Tensor, is_symmetric: bool = False, num_steps: int = 255
) -> torch.Tensor:
    analyzer.reset_stats()
    analyzer.update_stats(x)
    return torch.stack(analyzer.compute_encodings(num_steps, is_symmetric))


def test_even_data_is_covered_whole() -> None:
    scale = torch.tensor(2 / 255)
    low = torch.round(-1 / scale) * scale
    found = _range(SqnrEncodingAnalyzer((), gamma=1), torch.arange(-100, 101) / 100)
    assert found.tolist() == [low.item(), (low + 255 * scale).item()]


@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("is_exact", [False, True], ids=["growing", "exact"])
def test_a_lone_outlier_is_clipped(is_symmetric: bool, is_exact: bool) -> None:
    x = torch.cat((torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([100.0])))
    _, maximum = _range(SqnrEncodingAnalyzer((), exact=is_exact), x, is_symmetric, num_steps=15)
    assert 2 < maximum < 60


def test_a_higher_gamma_clips_less() -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    widths = [_range(SqnrEncodingAnalyzer((), gamma=g), x, True)[1].item() for g in (1.0, 30.0)]
    assert widths[0] < widths[1]


@pytest.mark.parametrize("max_parallelism", [1, 2, 64])
@pytest.mark.parametrize("chunk", [1, 2**14, 2**18])
@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_how_the_search_is_cut_does_not_matter(
    max_parallelism: int, chunk: int, is_symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(0))
    expected = _range(SqnrEncodingAnalyzer((5, 1), 100), x, is_symmetric)
    monkeypatch.setitem(noise._CHUNK, "cpu", chunk)
    analyzer = SqnrEncodingAnalyzer((5, 1), 100, max_parallelism=max_parallelism)
    assert torch.equal(_range(analyzer, x, is_symmetric), expected)


@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_the_noise_is_that_of_quantizing_the_centers(gamma: float) -> None:
    observer = HistogramObserver((2, 1), num_bins=50)
    stats = observer.collect_stats(torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)))
    deltas = torch.tensor([[0.01, 0.1, 0.3], [0.02, 0.2, 0.5]])
    offsets = torch.tensor([[-7.0, -15.0, 0.0], [-3.0, -8.0, -8.0]])
    found = expected_noise(stats.centers, stats.counts, deltas, offsets, 15, gamma)
    x = stats.centers[:, None]
    s, o = deltas[..., None], offsets[..., None]
    error = (quantize_dequantize(x.expand(-1, 3, -1).contiguous(), s, o, 0, 15) - x).square()
    codes = torch.round(x / s - o)
    weight = torch.where((codes < 0) | (codes > 15), gamma, 1.0)
    # 50 terms, a few roundings each
    torch.testing.assert_close(found, (error * weight * stats.counts[:, None]).sum(-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"num_bins": 0},
        {"asymmetric_delta_candidates": 1},
        {"symmetric_delta_candidates": 1},
        {"offset_candidates": 2},
        {"max_parallelism": 0},
        {"histogram_growth_limit": 2.0, "exact": True},
    ],
    ids=str,
)
def test_a_search_without_candidates_is_an_error(options: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        SqnrEncodingAnalyzer((), **options)


def test_a_growth_limit_below_one_is_an_error() -> None:
    with pytest.raises(QuantizerError, match="at least 1"):
        SqnrEncodingAnalyzer((), histogram_growth_limit=0.5)


def test_tf_enhanced_is_a_search_with_fixed_settings() -> None:
    fixed = TfEnhancedEncodingAnalyzer((3, 1))
    same = SqnrEncodingAnalyzer((3, 1), 512, histogram_growth_limit=3.0)
    x = torch.randn(3, 1000)
    for analyzer in (fixed, same):
        for scale in (1.0, 9.0, 0.1):
            analyzer.update_stats(x * scale)
    found, expected = (torch.stack(a.compute_encodings(255, False)) for a in (fixed, same))
    assert torch.equal(found, expected)


def test_the_growth_limit_of_tf_enhanced_holds_for_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TfEnhancedEncodingAnalyzer, "growth_limit", 3.0)
    before = TfEnhancedEncodingAnalyzer(())
    TfEnhancedEncodingAnalyzer.set_growth_limit(5.0)
    limits = [a.observer.growth_limit for a in (before, TfEnhancedEncodingAnalyzer(()))]
    assert limits == [3.0, 5.0]
    with pytest.raises(RuntimeError, match="at least 1"):
        TfEnhancedEncodingAnalyzer.set_growth_limit(0.5)
