"""The searches for amax give what NVIDIA's definitions give, to the last bit: ``amax_definitions``."""

import numpy as np
import pytest
import torch

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer.least_center_error import center_of_least_error
from fxquant.quantization.encoding_analyzer.least_divergence import kept_with_least_divergence
from fxquant.quantization.encoding_analyzer.percentile_edge import edge_at_percentile
from tests.quantization.encoding_analyzer.amax_definitions import entropy_kept, mse_bin

_RNG = np.random.default_rng(0)
VALUES = {
    "gaussian": _RNG.normal(size=20000),
    "laplace": _RNG.laplace(size=20000),
    "uniform": _RNG.uniform(size=5000),
    "relu": np.maximum(0, _RNG.normal(size=9999)),
    "whole-numbers": _RNG.poisson(8, 2000),
    "many-empty-bins": _RNG.integers(0, 40, 3000),
    "powers-of-two": _RNG.choice([1.0, 2, 4, 8, 16, 32], 500),
    "few": _RNG.normal(size=9),
    "outlier": np.r_[_RNG.uniform(size=4000), 10],
    "spike": np.r_[_RNG.normal(size=4000), np.full(9000, 0.5)],
    "two-values": np.r_[np.full(10, 255.0), 256],
    "one-value": np.full(10, 3.0),
    "zeros": np.zeros(10),
    "below-the-empty-range": _RNG.normal(size=1000) * 1e-9,
    "around-the-empty-range": _RNG.normal(size=1000) * 1e-7,
    "huge": _RNG.normal(size=500) * 1e14,
}
values = pytest.mark.parametrize("name", list(VALUES))
LEVELS = (8, 16, 128, 256)  # 4 and 8 bits, signed; 8 bits unsigned


def _histogram(name: str, num_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(np.abs(VALUES[name])).float()
    top = x.max().item()
    return torch.histc(x, num_bins, 0, top).double(), torch.linspace(0, top, num_bins + 1)


def _kept(counts: torch.Tensor, levels: int, start: int, stride: int = 1) -> int:
    num_bins = torch.tensor([len(counts)])
    return int(
        kept_with_least_divergence(counts[None], levels, start=start, stride=stride, num_bins=num_bins)
    )


def _best_bin(counts: torch.Tensor, edges: torch.Tensor, codes: int, start: int, stride: int = 1) -> int:
    centers, num_bins = (edges[1:] + edges[:-1]) / 2, torch.tensor([len(counts)])
    return int(
        center_of_least_error(
            counts[None], centers[None], codes, start=start, stride=stride, num_bins=num_bins
        )
    )


@values
def test_entropy_keeps_what_its_definition_keeps(name: str) -> None:
    for num_bins, levels, start, stride in [(19, 8, 1, 1), (19, 16, 8, 3), (60, 8, 8, 1), (70, 128, 1, 7)]:
        counts, _ = _histogram(name, num_bins)
        expected = entropy_kept(counts.numpy(), levels, start, stride)
        assert _kept(counts, levels, start, stride) == expected, (num_bins, levels, start, stride)


@values
def test_least_error_is_at_the_bin_of_its_definition(name: str) -> None:
    for num_bins, codes, start, stride in [(19, 7, 0, 1), (60, 7, 8, 1), (200, 127, 128, 1), (300, 15, 1, 7)]:
        counts, edges = _histogram(name, num_bins)
        expected = mse_bin(counts.numpy(), edges.numpy(), codes, start, stride)
        assert _best_bin(counts, edges, codes, start, stride) == expected, (num_bins, codes, start, stride)


@pytest.mark.slow
@pytest.mark.parametrize("levels", LEVELS)
@values
def test_searches_are_exact_with_some_hundred_bins(name: str, levels: int) -> None:
    for num_bins, start, stride in [(140, 1, 3), (200, 128, 1), (257, 100, 5)]:
        counts, edges = _histogram(name, num_bins)
        assert _kept(counts, levels, start, stride) == entropy_kept(counts.numpy(), levels, start, stride)
        expected = mse_bin(counts.numpy(), edges.numpy(), levels - 1, start, stride)
        assert _best_bin(counts, edges, levels - 1, start, stride) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "laplace", "relu", "many-empty-bins", "outlier", "two-values"])
def test_searches_are_exact_with_2048_bins(name: str) -> None:
    counts, edges = _histogram(name, 2048)
    assert _kept(counts, 128, 128, 8) == entropy_kept(counts.numpy(), 128, 128, 8)
    assert _best_bin(counts, edges, 127, 128) == mse_bin(counts.numpy(), edges.numpy(), 127, 128)


def test_histograms_together_give_what_each_gives_alone() -> None:
    names = [name for name in VALUES if name != "huge"] * 2
    found = [_histogram(name, 150 + 7 * index) for index, name in enumerate(names)]
    num_bins = torch.tensor([len(counts) for counts, _ in found])
    most = int(num_bins.max())
    counts, centers = torch.zeros(len(found), most, dtype=torch.float64), torch.zeros(len(found), most)
    for row, (own, edges) in enumerate(found):
        counts[row, : len(own)] = own
        centers[row] = (torch.arange(most) + 0.5) * (edges[1] - edges[0])
        centers[row, : len(own)] = (edges[1:] + edges[:-1]) / 2
    kept = kept_with_least_divergence(counts, 128, start=128, num_bins=num_bins)
    best = center_of_least_error(counts, centers, 127, start=128, num_bins=num_bins)
    assert kept.tolist() == [_kept(own, 128, 128) for own, _ in found]
    assert best.tolist() == [_best_bin(own, edges, 127, 128) for own, edges in found]


@pytest.mark.parametrize("percentile", [0, 10, 50, 99.99, 100])
def test_percentile_is_numpys_search_in_the_running_shares(percentile: float) -> None:
    rows = torch.stack([_histogram(name, 300)[0] for name in VALUES])
    shares = [np.cumsum(row / row.sum()) for row in rows.numpy()]
    expected = [int(np.searchsorted(share, percentile / 100)) for share in shares]
    assert edge_at_percentile(rows, percentile).tolist() == expected


def test_no_candidate_among_the_bins_is_an_error() -> None:
    counts, edges = _histogram("gaussian", 100)
    for start, stride in [(128, 1), (1, 0), (-1, 1)]:
        with pytest.raises(OptionError, match="start_bin"):
            _kept(counts, 128, start, stride)
        with pytest.raises(OptionError, match="start_bin"):
            _best_bin(counts, edges, 127, start, stride)


def test_percentile_out_of_range_is_an_error() -> None:
    with pytest.raises(OptionError, match="range"):
        edge_at_percentile(torch.ones(1, 4, dtype=torch.float64), 101)
