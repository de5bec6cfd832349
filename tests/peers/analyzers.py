"""Compare encoding analyzers with aimet-torch 2.42 on random configurations, bit for bit.

    pip install aimet-torch==2.42.0        # in a scratch environment that also has fxquant
    PYTHONPATH=. python tests/peers/analyzers.py [configurations, 1000 by default]

Each configuration draws an analyzer (MinMax, Percentile, Sqnr, TfEnhanced) with its options, a granularity,
one to four batches of one float type, and a grid; compared are the range and the whole histogram. It prints
how many are equal and why the others are not, and exits with 1 if there is no reason. The reasons, each
checked for the configuration at hand:

* equal once rounded to a half range: AIMET rounds the range to the type of a half tensor, ours stays float32.
* lost or doubled: comparing in the type of the tensor what it counted in float32, AIMET misses the largest
  elements of a half tensor and counts those of a double tensor twice, so that its counts do not add up to the
  number of elements. Ours do.
* mixed channels: from the second batch on, AIMET cuts the tensor as if the channels came first. Equal once
  AIMET is given the tensor in that order.
* extreme values: infinite ones, which min-max clips to the ends of the type in AIMET and to a quarter of that
  here, so that the scale is finite; or, for histograms, ones beyond 2^100.
* AIMET fails: it raises, when the range of double data grows or one overflows. Ours gives a finite range.
"""

import random
import sys
from collections import Counter
from dataclasses import dataclass

import torch

from fxquant.quantization import encoding_analyzer as ours
from fxquant.quantization.encoding_analyzer.rows import as_rows
from tests.zoo.torchvision_models import import_torchvision

import_torchvision()  # aimet-torch imports it, which fails beside a CPU build of torch without this
from aimet_torch.quantization import encoding_analyzer as aimet  # noqa: E402

KINDS = ["MinMax", "Percentile", "Sqnr", "TfEnhanced"]
LAYOUTS = [  # tensor, range, block size
    ((50,), (), None),
    ((6, 40), (1,), None),
    ((6, 40), (6, 1), None),
    ((40, 6), (6,), None),
    ((4, 3, 5, 5), (3, 1, 1), None),
    ((3, 4, 30), (3, 4, 1), None),
    ((4, 32), (4, 4), (1, 8)),
    ((4, 32), (4, 1), (-1, -1)),
    ((8, 6, 9), (2, 3, 1), (4, 2, -1)),
    ((5, 700), (), None),
]
EQUAL = ("equal", "equal once rounded to a half range")  # by whether AIMET returns a half type
Range = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration and its data."""

    kind: str
    layout: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]
    options: dict[str, float]
    batches: list[torch.Tensor]
    num_steps: int
    is_symmetric: bool

    def __str__(self) -> str:
        dtype, count = self.batches[0].dtype, len(self.batches)
        grid = f"{self.num_steps} steps, {'' if self.is_symmetric else 'a'}symmetric"
        return f"{self.kind}{self.options} {self.layout} {dtype} {count} batches, {grid}"


def main(num_cases: int) -> int:
    """Print the comparison of that many cases; return the exit status."""
    torch.manual_seed(0)
    random.seed(0)
    chance = random.Random(0)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for _ in range(num_cases):
        case = draw(chance)
        outcome = compare(case)
        found[case.kind][outcome] += 1
        if outcome == "UNEXPLAINED":
            print("unexplained:", case)
    total = sum(found.values(), Counter[str]())
    for name, counts in {**found, "all": total}.items():
        print(f"{name}: {sum(counts.values())} cases")
        for outcome, count in counts.most_common():
            print(f"    {count:5d}  {outcome}")
    return 1 if total["UNEXPLAINED"] else 0


def draw(chance: random.Random) -> Case:
    """Return a random case."""
    kind = chance.choice(KINDS)
    layout = chance.choice(LAYOUTS)
    dtype = chance.choice([torch.float32] * 5 + [torch.float16, torch.bfloat16, torch.float64])
    options: dict[str, float] = {}
    if kind == "Percentile":
        options = {
            "num_bins": chance.choice([3, 10, 100, 2048]),
            "percentile": chance.choice([50, 90, 99, 99.9, 100]),
        }
    if kind == "Sqnr":
        options = {
            "num_bins": chance.choice([10, 100, 2048]),
            "gamma": chance.choice([1.0, 3.0]),
            "max_parallelism": chance.choice([1, 5, 64]),
        }
        if chance.random() < 0.3:
            options["histogram_growth_limit"] = chance.choice([1.0, 2.5])
    make = chance.choice([normal, uniform, after_relu, heavy, constant, tiny, huge, with_infinity])
    grows = chance.choice([0.5, 1.0, 1.7])
    return Case(
        kind=kind,
        layout=layout,
        options=options,
        batches=[(make(layout[0]) * grows**i).to(dtype) for i in range(chance.randint(1, 4))],
        num_steps=chance.choice([3, 15, 254, 255, 65535]),
        is_symmetric=chance.random() < 0.5,
    )


def compare(case: Case) -> str:
    """Return "equal", the reason why the results differ, or "UNEXPLAINED"."""
    mine = build(ours, case, case.layout[1], case.layout[2])
    for batch in case.batches:
        mine.update_stats(batch)
    result = mine.compute_encodings(case.num_steps, case.is_symmetric)
    try:
        peer, expected = run_peer(case, case.batches, case.layout[1], case.layout[2])
    except (RuntimeError, IndexError) as error:
        is_finite = all(end.isfinite().all() for end in result)
        return f"AIMET fails: {str(error).splitlines()[0][:60]}" if is_finite else "UNEXPLAINED"
    if are_equal(mine, peer, result, expected):
        return EQUAL[case.batches[0].dtype.itemsize == 2 and expected[0].dtype.itemsize == 2]
    if has_extremes(case):
        return "extreme values"
    if not isinstance(mine.observer, ours.MinMaxObserver):
        seen = sum(batch.numel() for batch in case.batches)
        if total_count(mine) != seen:
            return "UNEXPLAINED"
        if total_count(peer) != seen:
            return "lost or doubled"
        rows = [as_rows(batch, case.layout[1], case.layout[2]) for batch in case.batches]
        shape = (len(rows[0]), 1)
        peer, expected = run_peer(case, rows, shape, None)
        if are_equal(
            mine, peer, result, (expected[0].reshape(result[0].shape), expected[1].reshape(result[1].shape))
        ):
            return "mixed channels"
        if total_count(peer) != seen:
            return "mixed channels, and lost or doubled"
    return "UNEXPLAINED"


def has_extremes(case: Case) -> bool:
    """Whether a value of a case is infinite or so for min-max, or finite but too large for a histogram."""
    values = torch.cat([batch.flatten() for batch in case.batches]).abs()
    if case.kind == "MinMax":
        largest = min(torch.finfo(values.dtype).max, torch.finfo(torch.float32).max)
        return bool((values > largest / 4).any())
    return bool(((values.float() > 2.0**100) & values.isfinite()).any())


def total_count(analyzer) -> int:
    """Return the number of elements in all histograms."""
    return sum(int(one.histogram.sum()) for one in analyzer.observer.stats)


def run_peer(
    case: Case, batches: list[torch.Tensor], shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> tuple[aimet.EncodingAnalyzer, Range]:
    """Return AIMET's analyzer after some batches, and its range."""
    peer = build(aimet, case, shape, block_size)
    for batch in batches:
        peer.update_stats(batch)
    return peer, peer.compute_encodings(case.num_steps, case.is_symmetric)


def build(module: object, case: Case, shape: tuple[int, ...], block_size: tuple[int, ...] | None):
    """Return the analyzer of a case from fxquant or AIMET."""
    return getattr(module, f"{case.kind}EncodingAnalyzer")(shape, block_size=block_size, **case.options)


def are_equal(mine, peer, result: Range, expected: Range) -> bool:
    """Whether the ranges and, if any, the histograms are equal bit for bit."""
    pairs = [(end.to(other.dtype), other) for end, other in zip(result, expected, strict=True)]
    if not isinstance(mine.observer, ours.MinMaxObserver):
        for a, b in zip(mine.observer.stats, peer.observer.stats, strict=True):
            pairs += [
                (getattr(a, name), getattr(b, name)) for name in ("histogram", "bin_edges", "min", "max")
            ]
    return all(a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def normal(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape) + torch.randn(())


def uniform(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape) * 3


def after_relu(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape).relu()


def heavy(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape) ** 5


def constant(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.full(shape, random.choice([0.0, 3.0, -0.25]))


def tiny(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape) * random.choice([1e-7, 1e-20, 1e-41])


def huge(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape) * random.choice([1e4, 1e4, 1e15, 1e38])


def with_infinity(shape: tuple[int, ...]) -> torch.Tensor:
    x = torch.randn(shape)
    return x.masked_fill(torch.rand(shape) < 0.01, torch.inf).masked_fill(
        torch.rand(shape) < 0.01, -torch.inf
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
