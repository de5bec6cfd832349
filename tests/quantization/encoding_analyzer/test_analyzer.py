"""What all analyzers promise."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

from fxquant.errors import NotCalibratedError, OptionError, QuantizerError
from fxquant.quantization.encoding_analyzer import (
    EncodingAnalyzer,
    EntropyEncodingAnalyzer,
    MinMaxEncodingAnalyzer,
    MovingAverageMinMaxEncodingAnalyzer,
    MseEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)

Build = Callable[..., EncodingAnalyzer]


def _exact_percentile(shape: tuple[int, ...], **options: tuple[int, ...]) -> EncodingAnalyzer:
    return PercentileEncodingAnalyzer(shape, percentile=99, exact=True, **options)


def _exact_sqnr(shape: tuple[int, ...], **options: tuple[int, ...]) -> EncodingAnalyzer:
    return SqnrEncodingAnalyzer(shape, exact=True, **options)


EXACT: list[Build] = [
    MinMaxEncodingAnalyzer,
    _exact_percentile,
    _exact_sqnr,
    MseEncodingAnalyzer,
    EntropyEncodingAnalyzer,
]
BUILDS: list[Build] = [
    *EXACT,
    MovingAverageMinMaxEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
]
every_analyzer = pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
every_exact_analyzer = pytest.mark.parametrize("build", EXACT, ids=lambda build: build.__name__)
symmetric_and_not = pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])


@pytest.fixture
def batches() -> list[torch.Tensor]:
    """Return three batches [4, 6, 10] of growing range."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 6, 10, generator=generator) * scale for scale in (1.0, 0.5, 2.0)]


def _ranges(analyzer: EncodingAnalyzer) -> torch.Tensor:
    """Return the ranges of a symmetric and an asymmetric grid, [4, ...]."""
    return torch.stack([end for s in (True, False) for end in analyzer.compute_encodings(255, s)])


def _observed(build: Build, tensors: list[torch.Tensor], shape: tuple[int, ...] = ()) -> EncodingAnalyzer:
    analyzer = build(shape)
    for tensor in tensors:
        analyzer.update_stats(tensor)
    return analyzer


@every_analyzer
@symmetric_and_not
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [((), None), ((1,), None), ((4, 1, 1), None), ((6, 1), None), ((10,), None), ((4, 3, 2), (1, 2, 5))],
    ids=str,
)
def test_each_range_is_that_of_its_elements_alone(
    build: Build,
    is_symmetric: bool,
    shape: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    batches: list[torch.Tensor],
) -> None:
    together = build(shape, block_size=block_size)
    alone = [build(()) for _ in range(together.observer.num_ranges)]
    for batch in batches:
        together.update_stats(batch)
        for analyzer, part in zip(alone, _parts(batch, shape), strict=True):
            analyzer.update_stats(part)
    found = torch.stack(together.compute_encodings(255, is_symmetric))
    expected = torch.stack([torch.stack(one.compute_encodings(255, is_symmetric)) for one in alone], dim=1)
    assert torch.equal(found, expected.reshape(2, *shape))


def _parts(x: torch.Tensor, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Cut a tensor evenly into as many parts as ``shape`` has elements, in row-major order."""
    parts = [x]
    for axis, size in enumerate((1,) * (x.dim() - len(shape)) + shape):
        parts = [piece for part in parts for piece in part.chunk(size, dim=axis)]
    return parts


@every_exact_analyzer
def test_the_order_and_the_cut_of_the_batches_do_not_matter(
    build: Build, batches: list[torch.Tensor]
) -> None:
    whole = _ranges(_observed(build, [torch.cat(batches)], (6, 1)))
    cut = [part for batch in reversed(batches) for part in batch.split([1, 3])]
    assert torch.equal(_ranges(_observed(build, cut, (6, 1))), whole)


@every_exact_analyzer
def test_merging_is_as_having_seen_everything(build: Build, batches: list[torch.Tensor]) -> None:
    first, second = _observed(build, batches[:1], (6, 1)), _observed(build, batches[1:], (6, 1))
    first.merge(second)
    assert torch.equal(_ranges(first), _ranges(_observed(build, batches, (6, 1))))


@every_analyzer
def test_merging_with_nothing_changes_nothing(build: Build, batches: list[torch.Tensor]) -> None:
    analyzer, nothing = _observed(build, batches), build(())
    before = _ranges(analyzer)
    analyzer.merge(nothing)
    assert torch.equal(_ranges(analyzer), before)
    nothing.merge(analyzer)
    assert torch.equal(_ranges(nothing), before)


@every_analyzer
def test_merging_covers_both(build: Build, batches: list[torch.Tensor]) -> None:
    analyzer = _observed(build, batches[:1])
    before = _ranges(analyzer)
    analyzer.merge(_observed(build, [batches[0] * 3]))
    after = _ranges(analyzer)
    assert (after[0::2] <= before[0::2]).all()
    assert (after[1::2] >= before[1::2]).all()


@every_analyzer
@pytest.mark.parametrize(
    "other", [MinMaxEncodingAnalyzer((2,)), MovingAverageMinMaxEncodingAnalyzer(())], ids=["shape", "kind"]
)
def test_what_does_not_belong_together_is_not_merged(build: Build, other: EncodingAnalyzer) -> None:
    analyzer = build((3,))
    with pytest.raises(QuantizerError, match="cannot be merged"):
        analyzer.merge(other)


@every_analyzer
@pytest.mark.parametrize(
    "passed", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))], ids=["copied", "pickled"]
)
def test_statistics_survive_a_journey(
    build: Build, passed: Callable[[object], dict[str, torch.Tensor]], batches: list[torch.Tensor]
) -> None:
    sender, receiver = _observed(build, batches[:2], (6, 1)), build((6, 1))
    receiver.load_statistics(passed(sender.statistics_dict()))
    for analyzer in (sender, receiver):
        analyzer.update_stats(batches[2])
    assert torch.equal(_ranges(sender), _ranges(receiver))


@every_analyzer
def test_no_statistics_load_as_none(build: Build, batches: list[torch.Tensor]) -> None:
    analyzer = _observed(build, batches)
    analyzer.load_statistics(build(()).statistics_dict())
    assert analyzer.observed_range is None


@every_analyzer
def test_statistics_of_another_shape_are_refused(build: Build, batches: list[torch.Tensor]) -> None:
    with pytest.raises(QuantizerError, match="is needed"):
        build((4, 1, 1)).load_statistics(_observed(build, batches, (6, 1)).statistics_dict())


@every_analyzer
def test_an_analyzer_that_has_seen_something_is_copied_and_pickled(
    build: Build, batches: list[torch.Tensor]
) -> None:
    analyzer = _observed(build, batches)
    assert torch.equal(_ranges(copy.deepcopy(analyzer)), _ranges(analyzer))
    assert torch.equal(_ranges(pickle.loads(pickle.dumps(analyzer))), _ranges(analyzer))


@every_analyzer
@symmetric_and_not
def test_dynamic_ranges_are_those_of_the_tensor_alone(
    build: Build, is_symmetric: bool, batches: list[torch.Tensor]
) -> None:
    analyzer = _observed(build, batches[:2])
    before = _ranges(analyzer)
    dynamic = analyzer.compute_dynamic_encodings(batches[2], 255, is_symmetric)
    fresh = _observed(build, batches[2:])
    assert torch.equal(torch.stack(dynamic), torch.stack(fresh.compute_encodings(255, is_symmetric)))
    assert torch.equal(_ranges(analyzer), before)


@every_analyzer
def test_updating_returns_the_statistics_of_the_batch(build: Build, batches: list[torch.Tensor]) -> None:
    analyzer = _observed(build, batches[:2])
    stats = analyzer.update_stats(batches[2])
    from_stats = analyzer.compute_encodings_from_stats(stats, 255, True)
    dynamic = analyzer.compute_dynamic_encodings(batches[2], 255, True)
    assert torch.equal(torch.stack(from_stats), torch.stack(dynamic))


@every_analyzer
def test_calibrating_without_data_is_an_error(build: Build) -> None:
    with pytest.raises(NotCalibratedError, match="No tensor was observed"):
        build(()).compute_encodings(255, is_symmetric=False)


@every_analyzer
@pytest.mark.parametrize("num_steps", [0, -1])
def test_a_grid_without_steps_is_an_error(build: Build, num_steps: int) -> None:
    analyzer = _observed(build, [torch.ones(3)])
    with pytest.raises(OptionError):
        analyzer.compute_encodings(num_steps, is_symmetric=False)


@every_analyzer
def test_a_tensor_that_does_not_fit_is_an_error(build: Build) -> None:
    with pytest.raises(QuantizerError):
        build((3, 4)).update_stats(torch.randn(2, 3, 5))


@every_analyzer
def test_an_empty_tensor_is_not_observed(build: Build) -> None:
    analyzer = build((3, 1))
    analyzer.update_stats(torch.empty(3, 0))
    assert analyzer.observed_range is None


@every_analyzer
def test_reset_forgets_what_was_observed(build: Build) -> None:
    analyzer = _observed(build, [torch.tensor([-5.0, 5.0])])
    analyzer.reset_stats()
    assert analyzer.observed_range is None
    analyzer.update_stats(torch.tensor([-1.0, 2.0]))
    assert [bound.item() for bound in analyzer.observed_range] == [-1.0, 2.0]


@every_analyzer
def test_the_observed_range_may_lie_on_one_side_of_zero(build: Build) -> None:
    analyzer = _observed(build, [torch.tensor([0.5, 1.0])])
    assert [bound.item() for bound in analyzer.observed_range] == [0.5, 1.0]


@every_analyzer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_range_is_float32_and_without_a_graph(build: Build, dtype: torch.dtype) -> None:
    analyzer = build((3, 1))
    for _ in range(2):
        analyzer.update_stats(torch.randn(3, 4, dtype=dtype, requires_grad=True))
    minimum, _ = analyzer.compute_encodings(255, is_symmetric=True)
    assert (minimum.dtype, minimum.shape, minimum.requires_grad) == (torch.float32, (3, 1), False)


@every_analyzer
@symmetric_and_not
@pytest.mark.parametrize("num_steps", [3, 255, 65535])
@pytest.mark.parametrize(
    "values",
    [[0.0], [3.0], [-1e-42, 1e-42], [3e38, -3e38], [1e-30, 1.0], [-0.0, 0.0], [2.0**24 + 2]],
    ids=["zero", "one", "subnormal", "huge", "wide", "zeros", "no-half"],
)
def test_the_range_of_odd_values_is_finite_and_holds_zero(
    build: Build, is_symmetric: bool, num_steps: int, values: list[float]
) -> None:
    analyzer = _observed(build, [torch.tensor(values), torch.tensor(values[:1])])
    minimum, maximum = analyzer.compute_encodings(num_steps, is_symmetric)
    assert minimum <= 0 <= maximum
    assert 0 < maximum - minimum < float("inf")


@pytest.mark.parametrize("build", [b for b in BUILDS if "MinMax" not in b.__name__], ids=lambda b: b.__name__)
@symmetric_and_not
def test_values_that_are_not_finite_do_not_widen_a_histogram(build: Build, is_symmetric: bool) -> None:
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([[1.0, inf, 2.0, nan], [nan, nan, inf, -inf], [-1.0, 1.0, -inf, 0.5]])
    analyzer = _observed(build, [x, x], (3, 1))
    minimum, maximum = analyzer.observed_range
    assert torch.stack((minimum, maximum))[:, [0, 2], 0].tolist() == [[1.0, -1.0], [2.0, 1.0]]
    assert torch.stack(analyzer.compute_encodings(255, is_symmetric)).isfinite().all()
    other = build((3, 1))
    other.update_stats(torch.tensor([[1.0, 2.0]] * 3))
    other.merge(analyzer)  # of which one range has seen nothing
    assert [end[1].item() for end in other.observed_range] == [1.0, 2.0]
    analyzer.update_stats(torch.tensor([[1.0, 2.0]] * 3))
    assert [end[1].item() for end in analyzer.observed_range] == [1.0, 2.0]


def test_an_analyzer_must_say_how_it_works() -> None:
    with pytest.raises(TypeError, match="abstract"):
        EncodingAnalyzer(MinMaxEncodingAnalyzer(()).observer)
