"""Traced numbers: sizes that know their graph node, so that arithmetic on them is recorded.

A traced number is an int or float to everybody else. Arithmetic gives traced numbers; whatever needs the
plain value (a comparison, a loop count, ``int()``) fixes it, which the recorder notes as a guard. What
Python computes without asking, such as ``2.0 * n`` or ``table[n]``, cannot be seen: so a graph is also tried
on inputs of another size.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

from torch import fx

from fxquant.graph.recordable import rounded


class NumberRecorder(Protocol):
    """What traced numbers need of the recorder that made them."""

    is_open: bool

    def number_call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Record a call on numbers; return its traced result."""

    def compare(self, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Return the result of a comparison; note that the graph holds only while it stays the same."""

    def fix(self, node: fx.Node, value: object) -> None:
        """Note that the graph holds only while a node has a value."""


class _Traced:
    """What traced ints and floats have in common.

    Attributes:
        node: The node that gives the number.
        recorder: The recorder of that node's graph.
    """

    node: fx.Node
    recorder: NumberRecorder

    def __deepcopy__(self, memo: dict[int, Any]) -> int | float:
        return plain(self)  # type: ignore[no-any-return]  # an int or a float

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _same, (plain(self),)


class TracedInt(_Traced, int):
    """An int that a graph node gives."""

    __hash__ = int.__hash__

    def __int__(self) -> int:
        return fixed(self)  # type: ignore[no-any-return]  # an int

    def __float__(self) -> float:
        return float(fixed(self))

    def __ceil__(self) -> int:
        return self

    __floor__ = __trunc__ = __ceil__


class TracedFloat(_Traced, float):
    """A float that a graph node gives."""

    __hash__ = float.__hash__

    def __int__(self) -> int:
        return int(fixed(self))

    def __float__(self) -> float:
        return fixed(self)  # type: ignore[no-any-return]  # a float


def traced(value: float, node: fx.Node, recorder: NumberRecorder) -> Any:
    """Return a number that knows its node; a bool stays what it is."""
    if isinstance(value, bool):
        return value
    number = TracedInt(value) if isinstance(value, int) else TracedFloat(value)
    number.node, number.recorder = node, recorder
    return number


def plain(value: Any) -> Any:
    """Return a value without its traces, in tuples, lists, dicts and slices too."""
    if isinstance(value, TracedInt):
        return int.__pos__(value)
    if isinstance(value, TracedFloat):
        return float.__pos__(value)
    if type(value) in (tuple, list):
        return type(value)(plain(item) for item in value)
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    return value


def fixed(value: Any) -> Any:
    """Return a number without its trace; the recorder notes that the graph holds for this value only."""
    number = plain(value)
    if isinstance(value, _Traced) and value.recorder.is_open:
        value.recorder.fix(value.node, number)
    return number


def is_traced(*values: Any) -> bool:
    """Whether any value is a traced number of a recording that goes on."""
    return any(isinstance(value, _Traced) and value.recorder.is_open for value in values)


def record_number(function: Callable[..., Any], *values: Any) -> Any:
    """Call a function on numbers, and record the call where one of them is traced."""
    source = next((v for v in values if isinstance(v, _Traced) and v.recorder.is_open), None)
    if source is None:
        return function(*map(plain, values))
    return source.recorder.number_call(function, values)


def _same(value: Any) -> Any:
    return value


_SEQUENCES = (list, tuple, str, bytes)


def _binary(function: Callable[..., Any], is_reflected: bool) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if isinstance(other, _SEQUENCES):  # [0] * n
            return function(other, fixed(self))
        if not isinstance(other, int | float):
            return NotImplemented
        return record_number(function, *((other, self) if is_reflected else (self, other)))

    return method


def _comparison(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        source = self if self.recorder.is_open or not isinstance(other, _Traced) else other
        if not source.recorder.is_open:
            return function(plain(self), plain(other))
        return source.recorder.compare(function, (self, other))

    return method


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *more: Any) -> Any:
        return record_number(function, self, *more)

    return method


def _bool(self: Any) -> bool:
    return bool(self != 0)


_BOOL = "__bool__"
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
for _class in (TracedInt, TracedFloat):
    for _name in _BINARY:
        _function = getattr(operator, {"and": "and_", "or": "or_"}.get(_name, _name))
        if hasattr(_class, f"__{_name}__"):
            setattr(_class, f"__{_name}__", _binary(_function, is_reflected=False))
            setattr(_class, f"__r{_name}__", _binary(_function, is_reflected=True))
    for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(_class, f"__{_name}__", _comparison(getattr(operator, _name)))
    for _name, _function in (("neg", operator.neg), ("abs", abs), ("round", rounded)):
        setattr(_class, f"__{_name}__", _unary(_function))
    setattr(_class, _BOOL, _bool)
for _name, _function in (("ceil", math.ceil), ("floor", math.floor), ("trunc", math.trunc)):
    setattr(TracedFloat, f"__{_name}__", _unary(_function))
