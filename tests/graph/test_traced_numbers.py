"""Traced numbers: arithmetic is recorded, a plain value is a guard."""

import math
import operator
from typing import Any

import pytest
from torch import fx

from fxquant.graph.traced_numbers import TracedFloat, TracedInt, plain, traced


class Log:
    """A recorder that keeps what it is told."""

    is_open = True

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.calls: list[tuple[Any, ...]] = []
        self.fixed: list[object] = []

    def number(self, value: float) -> Any:
        return traced(value, self.graph.placeholder("size"), self)

    def number_call(self, function: Any, args: Any) -> Any:
        self.calls.append((function, *map(plain, args)))
        return traced(function(*map(plain, args)), self.graph.placeholder("result"), self)

    def compare(self, function: Any, args: Any) -> bool:
        result = function(*map(plain, args))
        self.fixed.append((function.__name__, *map(plain, args), result))
        return result

    def fix(self, node: fx.Node, value: object) -> None:
        self.fixed.append(value)


@pytest.mark.parametrize(
    ("compute", "call"),
    [
        (lambda n: n + 1, (operator.add, 7, 1)),
        (lambda n: 1 - n, (operator.sub, 1, 7)),
        (lambda n: n // 2, (operator.floordiv, 7, 2)),
        (lambda n: n * 2.0, (operator.mul, 7, 2.0)),
        (lambda n: n**-0.5, (operator.pow, 7, -0.5)),
        (lambda n: -n, (operator.neg, 7)),
        (lambda n: n / 2, (operator.truediv, 7, 2)),
        (lambda n: n % 4, (operator.mod, 7, 4)),
    ],
)
def test_arithmetic_is_recorded_and_stays_traced(compute: Any, call: Any) -> None:
    log = Log()
    result = compute(log.number(7))
    assert log.calls == [call]
    assert isinstance(result, TracedInt | TracedFloat)
    assert plain(result) == compute(7)
    assert log.fixed == []


@pytest.mark.parametrize("round_up", [math.ceil, math.floor, round])
def test_rounding_a_quotient_stays_traced(round_up: Any) -> None:
    log = Log()
    result = round_up(log.number(7) / 2)
    assert isinstance(result, TracedInt)
    assert plain(result) == round_up(3.5)
    assert log.fixed == []


@pytest.mark.parametrize(
    ("use", "fixed"),
    [
        (int, [7]),
        (float, [7]),
        (lambda n: [0] * n, [7]),
        (lambda n: n > 3, [("gt", 7, 3, True)]),
        (lambda n: n == 7, [("eq", 7, 7, True)]),
        (bool, [("ne", 7, 0, True)]),
        (lambda n: {7: "seven"}[n], [("eq", 7, 7, True)]),
    ],
)
def test_what_needs_the_plain_value_fixes_it(use: Any, fixed: Any) -> None:
    log = Log()
    assert use(log.number(7)) == use(7)
    assert [*log.fixed] == fixed


def test_a_number_of_a_closed_recording_is_a_plain_number() -> None:
    log = Log()
    number = log.number(7)
    log.is_open = False
    assert (number + 1, number > 3, [0] * number) == (8, True, [0] * 7)
    assert (log.calls, log.fixed) == ([], [])


def test_a_float_on_the_left_hides_what_is_computed() -> None:
    """Python does not ask the int: why capture tries its graphs on inputs of another size."""
    log = Log()
    assert type(2.0 * log.number(7)) is float
    assert (log.calls, log.fixed) == ([], [])


def test_a_number_is_an_int_to_everybody_else() -> None:
    number = Log().number(7)
    assert isinstance(number, int)
    assert f"{number:03d} {number}" == "007 7"
    assert "abcdefgh"[number] == "h"
