"""A job's ratio counts what the job does between batches, and not the float forwards it is compared with."""

import time

import pytest

from benchmarks.pairing import paired_ratio


class Clock:
    """A processor clock that goes on only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "process_time", lambda: clock.now)
    return clock


def test_ratio_is_the_time_between_batches_over_that_of_the_forwards(clock: Clock) -> None:
    def job(batches):
        for _ in batches:
            clock.spend(3)
        clock.spend(6)  # the final analysis

    ratio = paired_ratio(job, lambda batch: clock.spend(2), ["a", "b", "c"], rounds=3)
    assert ratio.rounds == (15 / 6,) * 3
    assert ratio.spread == 0


def test_second_pass_over_the_data_counts_against_one_float_pass(clock: Clock) -> None:
    def job(batches):
        for _ in range(2):
            for _ in batches:
                clock.spend(3)

    assert paired_ratio(job, lambda batch: clock.spend(2), ["a", "b"], rounds=1).median == 3


def test_spread_is_a_part_of_the_median(clock: Clock) -> None:
    costs = iter([0, 2, 4, 3])  # the first round sets things up

    def job(batches):
        for _ in batches:
            clock.spend(next(costs))

    ratio = paired_ratio(job, lambda batch: clock.spend(1), ["a"], rounds=3)
    assert (ratio.median, ratio.spread) == (3, pytest.approx(2 / 3))
