"""Forms: the fields that an entry of an encodings file may have, by version and kind."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from fxquant.quantization.affine.grid import MAX_BITWIDTH

FLOAT_TYPES = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float4e2m1")
"""Float types that 2.x have entries for."""

_FLOAT32_MAX, _FLOAT32_TINY = 3.4028234663852886e38, 2.0**-149
_INTEGER_MAX = 2**53  # of which float64 holds each
_MAX_RANK = 8
_INTEGER = re.compile(r"u?int([1-9]|[12][0-9]|3[012])")


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a field of an entry holds.

    Attributes:
        what: The same in words, for errors.
        holds: Whether a value is such a one.
        is_optional: Whether an entry may be without it.
    """

    what: str
    holds: Callable[[Any], bool]
    is_optional: bool = False


Form = Mapping[str, Field]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a JSON document is a number that float32 has room for."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= (_FLOAT32_MAX if isinstance(value, float) else _INTEGER_MAX)


def is_scale(value: object) -> bool:
    """Whether a value is a number that float32 holds as a positive one."""
    return is_number(value) and value >= _FLOAT32_TINY


def is_half(value: object) -> bool:
    """Whether a value is a multiple of one half that may be a zero point."""
    return is_number(value) and _is_whole(2 * value)


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 1 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def is_integer_type(value: object) -> bool:
    """Whether a value is the name of an integer type, such as "int4"."""
    return isinstance(value, str) and _INTEGER.fullmatch(value) is not None


def nested_shape(values: object, holds: Callable[[Any], bool], rank: int = _MAX_RANK) -> list[int] | None:
    """Return the shape of nested lists; None if they are ragged, empty, too deep or hold something else."""
    if not isinstance(values, list):
        return [] if holds(values) else None
    if not values or rank == 0:
        return None
    shapes = [nested_shape(value, holds, rank - 1) for value in values]
    first = shapes[0]
    return None if first is None or any(shape != first for shape in shapes) else [len(values), *first]


def _is_whole(value: object) -> bool:
    return is_number(value) and abs(value) <= 2 ** (MAX_BITWIDTH + 1) and value == math.floor(value)


def _is_bitwidth(value: object) -> bool:
    return is_count(value) and isinstance(value, int) and value <= MAX_BITWIDTH


def _is_axis(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_RANK


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: isinstance(values, list) and bool(values) and all(map(holds, values))


def _one_of(*choices: object) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def _nested(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda values: nested_shape(values, holds) is not None


_NAME = Field(what="a text", holds=lambda value: isinstance(value, str))
_BITS = Field(what="a number of bits from 1 to 32", holds=_is_bitwidth)
_SIXTEEN = Field(what="16: floats of other widths have no entry", holds=_one_of(16))
_SHIFT = Field(what="0.0 or 0.5", holds=_one_of(0.0, 0.5), is_optional=True)
_AXIS = Field(what="a dimension", holds=_is_axis)
_LENGTH = Field(what="a length of 1 or more", holds=is_count)
_POSITIVE = Field(what="a list of positive numbers", holds=_list_of(is_scale))
_COUNTS = Field(what="nested lists of whole numbers from 1 on", holds=_nested(is_count))

RANGE: Form = {
    "min": Field(what="a finite number", holds=is_number, is_optional=True),
    "max": Field(what="a finite number", holds=is_number, is_optional=True),
    "scale": Field(what="a positive number", holds=is_scale),
    "offset": Field(what="a whole number", holds=_is_whole),
    "bitwidth": _BITS,
    "dtype": Field(what='"int" or "float"', holds=_one_of("int")),
    "is_symmetric": Field(what='"True" or "False", as text', holds=_one_of("True", "False")),
    "zero_point_shift": _SHIFT,
}
"""0.6.1: one scale of a tensor."""

FLOAT_RANGE: Form = {"bitwidth": _SIXTEEN, "dtype": Field(what='"float"', holds=_one_of("float"))}
"""0.6.1: a tensor of float16."""

INTEGERS: Form = {
    "name": _NAME,
    "dtype": Field(what='"INT" or "FLOAT"', holds=_one_of("INT")),
    "bw": _BITS,
    "is_sym": Field(what="true or false", holds=_one_of(True, False)),
    "scale": _POSITIVE,
    "offset": Field(what="a list of whole numbers", holds=_list_of(_is_whole)),
    "enc_type": Field(
        what='"PER_TENSOR", "PER_CHANNEL", "PER_BLOCK" or "LPBQ"',
        holds=_one_of("PER_TENSOR", "PER_CHANNEL", "PER_BLOCK", "LPBQ"),
    ),
    "zero_point_shift": Field(what="a list of 0.0 or of 0.5", holds=_list_of(_SHIFT.holds), is_optional=True),
}
"""1.0.0: a tensor of integers."""

BLOCKS: Form = {"block_size": _LENGTH}
"""1.0.0: what PER_BLOCK adds."""

GROUPS: Form = {
    "block_size": _LENGTH,
    "compressed_bw": _BITS,
    "per_block_int_scale": Field(what="a list of whole numbers from 1 on", holds=_list_of(is_count)),
}
"""1.0.0: what LPBQ adds."""

FLOATS: Form = {
    "name": _NAME,
    "dtype": Field(what='"FLOAT"', holds=_one_of("FLOAT")),
    "bw": _SIXTEEN,
    "enc_type": Field(what='"PER_TENSOR"', holds=_one_of("PER_TENSOR")),
}
"""1.0.0: a tensor of float16."""

TYPE: Form = {
    "name": _NAME,
    "output_dtype": Field(
        what=f'an integer type, such as "uint8", or one of {", ".join(FLOAT_TYPES)}',
        holds=lambda value: is_integer_type(value) or _one_of(*FLOAT_TYPES)(value),
    ),
}
"""2.x: what every entry has."""

SCALES: Form = {
    "y_scale": Field(what="a positive number, or nested lists of them", holds=_nested(is_scale)),
    "y_zero_point": Field(
        what="a whole number, or nested lists of them", holds=_nested(is_half), is_optional=True
    ),
    "axis": Field(what=_AXIS.what, holds=_is_axis, is_optional=True),
    "block_size": Field(what=_LENGTH.what, holds=is_count, is_optional=True),
}
"""2.x: scales of a tensor, its channels or its blocks."""

MULTIPLES: Form = {
    "per_block_int_scale": _COUNTS,
    "per_channel_float_scale": Field(what="nested lists of positive numbers", holds=_nested(is_scale)),
    "axis": _AXIS,
    "block_size": _LENGTH,
}
"""2.x: LPBQ, as 2.0.0 writes it."""

DOUBLE: Form = {
    "y_scale": Field(what="an object of x, x_scale and axis", holds=lambda value: isinstance(value, Mapping)),
    "axis": _AXIS,
    "block_size": _LENGTH,
}
"""2.1.0: LPBQ, its scales quantized themselves."""

INNER: Form = {"x": _COUNTS, "x_scale": _POSITIVE, "axis": _AXIS}
"""2.1.0: what is in such a ``y_scale``."""
