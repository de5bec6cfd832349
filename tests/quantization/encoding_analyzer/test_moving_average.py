"""The moving average of each batch's range."""

import pytest
import torch

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer import MovingAverageMinMaxEncodingAnalyzer

EPS = torch.finfo(torch.float32).eps


def test_it_follows_the_formula() -> None:
    analyzer = MovingAverageMinMaxEncodingAnalyzer((), momentum=0.75)
    for x in ([-1.0, 2.0], [-3.0, 6.0], [1.0, 2.0]):
        analyzer.update_stats(torch.tensor(x))
    # (-1 * .75 - 3 * .25) * .75 + 1 * .25, and (2 * .75 + 6 * .25) * .75 + 2 * .25: exact in binary
    assert [end.item() for end in analyzer.observed_range] == [-0.875, 2.75]


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_it_is_that_of_torch(momentum: float) -> None:
    torch_observer = torch.ao.quantization.MovingAverageMinMaxObserver(averaging_constant=1 - momentum)
    analyzer = MovingAverageMinMaxEncodingAnalyzer((), momentum)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(100, generator=generator)
        torch_observer(x)
        analyzer.update_stats(x)
    minimum, maximum = analyzer.observed_range
    # 20 updates of 3 roundings each
    torch.testing.assert_close(minimum, torch_observer.min_val, rtol=60 * EPS, atol=0)
    torch.testing.assert_close(maximum, torch_observer.max_val, rtol=60 * EPS, atol=0)


def test_without_momentum_the_last_batch_counts() -> None:
    analyzer = MovingAverageMinMaxEncodingAnalyzer((2,), momentum=0.0)
    for x in (torch.ones(3, 2) * 9, torch.tensor([[1.0, 2.0]])):
        analyzer.update_stats(x)
    assert analyzer.observed_range[1].tolist() == [1.0, 2.0]


def test_merging_weighs_by_the_number_of_batches() -> None:
    first, second = (MovingAverageMinMaxEncodingAnalyzer(()) for _ in range(2))
    for analyzer, value, times in ((first, 1.0, 3), (second, 5.0, 1)):
        for _ in range(times):
            analyzer.update_stats(torch.tensor([value]))
    first.merge(second)
    assert first.observed_range[1].item() == 2.0


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2.0])
def test_a_momentum_out_of_range_is_an_error(momentum: float) -> None:
    with pytest.raises(OptionError, match="momentum"):
        MovingAverageMinMaxEncodingAnalyzer((), momentum)
