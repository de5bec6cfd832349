"""complaint: what is wrong with the entry of a tensor in an encodings file, before it is used.

An unknown field is an error too: a misspelt ``y_zero_point`` that is passed over would shift every value of
the tensor.
"""

from collections.abc import Mapping
from typing import Any

from fxquant.export.entry_fields import (
    BLOCKS,
    DOUBLE,
    FLOAT_RANGE,
    FLOAT_TYPES,
    FLOATS,
    GROUPS,
    INNER,
    INTEGERS,
    MULTIPLES,
    RANGE,
    SCALES,
    TYPE,
    Form,
    is_count,
    is_half,
    is_integer_type,
    is_scale,
    nested_shape,
)

_SHOWN = 60  # characters of a value in an error

Entry = Mapping[str, Any]


def complaint(entry: object, version: str) -> str | None:
    """Return what is wrong with an entry of a version; None if it is sound."""
    if version == "0.6.1":
        return _about_ranges(entry)
    if not isinstance(entry, Mapping):
        return f"it is {_shown(entry)}, not an object of fields"
    if version == "1.0.0":
        return _about_named_type(entry)
    return _about_onnx_attributes(entry, version)


def range_complaint(entry: object) -> str | None:
    """Return what is wrong with one scale of version 0.6.1; fields of other names are passed over."""
    if not isinstance(entry, Mapping):
        return f"it is {_shown(entry)}, not an object of fields"
    form = FLOAT_RANGE if entry.get("dtype") == "float" else RANGE
    return _about_fields({name: entry[name] for name in entry if name in form}, form)


def _about_ranges(entries: object) -> str | None:
    if not isinstance(entries, list) or not entries or not all(isinstance(e, Mapping) for e in entries):
        return f"it is {_shown(entries)}, not a list of objects"
    for index, entry in enumerate(entries):
        found = _about_fields(entry, FLOAT_RANGE if entry.get("dtype") == "float" else RANGE)
        found = found or _about_ends(entry)
        if found is not None:
            return f"in number {index} of its list {found}"
    common = ("bitwidth", "dtype", "is_symmetric", "zero_point_shift")
    if any(entry.get(name) != entries[0].get(name) for entry in entries for name in common):
        return f"its entries differ in {', '.join(common[:-1])} or {common[-1]}"
    is_float = entries[0]["dtype"] == "float"
    return "a float type has one entry, not several" if is_float and len(entries) > 1 else None


def _about_ends(entry: Entry) -> str | None:
    """Check that min, max and scale agree: somebody may have changed one and left the others."""
    if "min" not in entry or "max" not in entry:
        return None
    steps, most = (entry["max"] - entry["min"]) / entry["scale"], 2 ** entry["bitwidth"] - 1
    if abs(steps - most) <= 1.5 + 1e-5 * most:  # a narrow or shifted grid has one step less; float32 ends
        return None
    return f"from 'min' to 'max' it is {steps:.6g} times 'scale', for {entry['bitwidth']} bits it is {most}"


def _about_named_type(entry: Entry) -> str | None:
    if entry.get("dtype") == "FLOAT":
        return _about_fields(entry, FLOATS)
    kind = entry.get("enc_type")
    more: Form = GROUPS if kind == "LPBQ" else BLOCKS if kind == "PER_BLOCK" else {}
    found = _about_fields(entry, {**INTEGERS, **more})
    if found is not None:
        return found
    scales, offsets = len(entry["scale"]), len(entry["offset"])
    if scales != offsets:
        return f"it has {scales} scales and {offsets} offsets"
    shifts = entry.get("zero_point_shift", [0.0] * scales)
    if len(shifts) != scales or len(set(shifts)) > 1:
        return "'zero_point_shift' is not the same for each scale"
    if kind == "PER_TENSOR" and scales > 1:
        return f"it is PER_TENSOR, and has {scales} scales"
    return _about_multiples(entry) if kind == "LPBQ" else None


def _about_multiples(entry: Entry) -> str | None:
    spare = entry["bw"] - entry["compressed_bw"]
    if spare >= 0 and max(entry["per_block_int_scale"]) <= 2**spare:
        return None
    return f"'per_block_int_scale' goes beyond 2**{spare}, which is what 'bw' and 'compressed_bw' allow"


def _about_onnx_attributes(entry: Entry, version: str) -> str | None:
    double = entry.get("y_scale")
    if isinstance(double, Mapping):
        if version == "2.0.0":
            return "'y_scale' is an object, which is of version 2.1.0"
        found = _about_fields(entry, {**TYPE, **DOUBLE}) or _about_fields(double, INNER)
        return found or _about_groups(entry, double["x"], _along(double))
    if "per_block_int_scale" in entry:
        found = _about_fields(entry, {**TYPE, **MULTIPLES})
        groups = nested_shape(entry.get("per_channel_float_scale"), is_scale)
        return found or _about_groups(entry, entry["per_block_int_scale"], groups)
    return _about_fields(entry, {**TYPE, **SCALES}) or _about_layout(entry)


def _about_layout(entry: Entry) -> str | None:
    shape = nested_shape(entry["y_scale"], is_scale)
    assert shape is not None
    if "y_zero_point" in entry and nested_shape(entry["y_zero_point"], is_half) != shape:
        return "'y_zero_point' has another shape than 'y_scale'"
    if "y_zero_point" in entry and entry["output_dtype"] in FLOAT_TYPES:
        return "a float type has no 'y_zero_point'"
    if "block_size" in entry:
        return _about_axis(entry, len(shape)) if shape else "one scale serves no blocks"
    if len(shape) > 1:
        return "nested scales need a 'block_size'"
    return "several scales need an 'axis'" if shape and "axis" not in entry else None


def _along(double: Entry) -> list[int] | None:
    """Return the shape that ``x_scale`` has beside ``x``; None if it has none."""
    rank = len(nested_shape(double["x"], is_count) or ())
    if not -rank <= double["axis"] < rank:
        return None
    shape = [1] * rank
    shape[double["axis"]] = len(double["x_scale"])
    return shape


def _about_groups(entry: Entry, multiples: object, groups: list[int] | None) -> str | None:
    """Check that scales of groups fit the multiples of them, block by block."""
    shape = nested_shape(multiples, is_count) or []
    if not is_integer_type(entry["output_dtype"]) or entry["output_dtype"].startswith("u"):
        return "'output_dtype' of multiples of scales is a signed integer type"
    if groups is None or len(groups) != len(shape):
        return "the scales of channels have another number of dimensions than those of blocks"
    if any(size not in (1, count) for size, count in zip(groups, shape, strict=True)):
        return "the scales of channels do not fit those of blocks"
    return _about_axis(entry, len(shape))


def _about_axis(entry: Entry, rank: int) -> str | None:
    axis = entry.get("axis")
    fits = axis is not None and -rank <= axis < rank
    return None if fits else f"'axis' is {_shown(axis)}, and the scales have {rank} dimensions"


def _about_fields(entry: Entry, form: Form) -> str | None:
    for name, field in form.items():
        if name not in entry and not field.is_optional:
            return f"there is no '{name}'"
        if name in entry and not field.holds(entry[name]):
            return f"'{name}' is {_shown(entry[name])}, not {field.what}"
    unknown = sorted(set(entry) - set(form))
    return f"'{unknown[0]}' is none of its fields: {', '.join(form)}" if unknown else None


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
