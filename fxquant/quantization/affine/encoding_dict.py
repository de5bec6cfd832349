"""Affine encodings as entries of Qualcomm encodings files, versions 0.6.1, 1.0.0, 2.0.0 and 2.1.0.

0.6.1 lists every scale in order, whatever it serves: it has no word for blocks. 0.6.1 and 1.0.0 count an
offset from the lowest code of an unsigned grid: for a signed one of b bits it is 2^(b-1) less than fxquant's.
2.x are the attributes of ONNX QuantizeLinear, with zero points.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fxquant.errors import QuantizerError, unknown_option
from fxquant.quantization.affine.grid import integer_grid

if TYPE_CHECKING:
    from fxquant.quantization.affine.encoding import AffineEncoding

VERSIONS = ("0.6.1", "1.0.0", "2.0.0", "2.1.0")
_TYPES = {"pertensor": "PER_TENSOR", "perchannel": "PER_CHANNEL", "blockwise": "PER_BLOCK"}

Entry = dict[str, Any]


def affine_to_dict(
    encoding: "AffineEncoding", version: str | None, shape: Sequence[int] | None
) -> Entry | list[Entry]:
    """Return the entry of an encoding, without the tensor's name.

    Args:
        encoding: What to write.
        version: One of ``VERSIONS``; "2.0.0.beta" is 2.0.0 with absent attributes as None and axes counted
            from the first, as AIMET once wrote it.
        shape: Shape of the encoded tensor, needed for blocks of size -1; None where there are none.

    Raises:
        OptionError: If there is no such version.
        QuantizerError: If the format has no way to say what the encoding says.
    """
    if version == "2.0.0.beta":
        return _as_beta(_onnx_attributes(encoding, shape), encoding.scale.dim())
    version = version or VERSIONS[1]
    if version not in VERSIONS:
        raise unknown_option("encoding version", version, VERSIONS)
    if version == "0.6.1":
        return _list_of_ranges(encoding)
    return _named_type(encoding, shape) if version == "1.0.0" else _onnx_attributes(encoding, shape)


def affine_from_dict(
    entry: Mapping[str, Any] | Sequence[Mapping[str, Any]], shape: Sequence[int] | None
) -> Entry:
    """Return the keyword arguments of the AffineEncoding that an entry of any version stands for.

    Args:
        entry: As ``affine_to_dict`` returns it.
        shape: Shape of scale; None for one scale, or where version 2 says the axis or nests the lists.

    Raises:
        QuantizerError: If the entry is not an affine one, or the shape is missing or does not fit.
    """
    try:
        return _arguments_of(entry, shape)
    except KeyError as error:
        raise QuantizerError(f"The entry of an encoding has no {error}: {entry}.") from error


def _arguments_of(
    entry: Mapping[str, Any] | Sequence[Mapping[str, Any]], shape: Sequence[int] | None
) -> Entry:
    if not isinstance(entry, Mapping):
        return _from_ranges(entry, shape)
    if "y_scale" in entry:
        return _from_onnx_attributes(entry, shape)
    if entry.get("dtype") != "INT":
        raise QuantizerError(f"This is not an entry of an affine encoding: {dict(entry)}.")
    bits, symmetry = int(entry["bw"]), bool(entry["is_sym"])
    scale = _shaped(entry["scale"], shape)
    offset = _shaped(entry["offset"], scale.shape)
    shift = next(iter(entry.get("zero_point_shift", [])), 0.0)
    block = entry.get("block_size")
    block_size = None if block is None else (1, block, *([-1] * (scale.dim() - 2)))
    return _arguments(scale, offset, bits, symmetry) | {"zero_point_shift": shift, "block_size": block_size}


def block_length(encoding: Any, shape: Sequence[int] | None) -> tuple[int | None, int | None, int | None]:
    """Return channel axis, block axis and block length of an encoding; None for what it has not.

    Raises:
        QuantizerError: If the block length is -1 and the tensor's shape is not known.
    """
    if encoding.granularity == "pertensor" or encoding.scale.numel() == 1:
        return None, None, None
    sizes = encoding.block_size or ()
    if shape is None and -1 in sizes[:2]:
        raise QuantizerError(
            "Blocks of size -1 have no length without a tensor.", remedy="Pass the shape of the tensor."
        )
    channel_axis, block_axis = encoding.axes(shape or _implied_shape(encoding))
    if block_axis is None:
        return channel_axis, None, None
    whole = shape or _implied_shape(encoding)
    return channel_axis, block_axis, whole[block_axis] // encoding.scale.shape[block_axis]


def _implied_shape(encoding: Any) -> tuple[int, ...]:
    """Return the smallest shape an encoding serves: one element where its block size is left open."""
    scale = encoding.scale.shape
    sizes = (*([1] * (len(scale) - len(encoding.block_size or ()))), *(encoding.block_size or ()))
    return tuple(count * (1 if size == -1 else size) for count, size in zip(scale, sizes, strict=True))


def _shift(encoding: "AffineEncoding") -> int:
    """Return how far the lowest code of a signed type lies below that of the unsigned one."""
    return int(2 ** (encoding.storage_bits - 1)) if encoding.qmin < 0 else 0


def _list_of_ranges(encoding: "AffineEncoding") -> list[Entry]:
    columns = (encoding.min, encoding.max, encoding.scale, encoding.offset - _shift(encoding))
    entries = [
        {
            "min": minimum,
            "max": maximum,
            "scale": scale,
            "offset": int(offset),
            "bitwidth": encoding.storage_bits,
            "dtype": "int",
            "is_symmetric": str(encoding.symmetry),
        }
        for minimum, maximum, scale, offset in zip(
            *(column.detach().reshape(-1).tolist() for column in columns), strict=True
        )
    ]
    shift = {"zero_point_shift": encoding.zero_point_shift} if encoding.zero_point_shift else {}
    return [entry | shift for entry in entries]


def _named_type(encoding: "AffineEncoding", shape: Sequence[int] | None) -> Entry:
    if encoding.granularity not in _TYPES:
        raise QuantizerError(
            f"Version 1.0.0 cannot say a scale of shape {tuple(encoding.scale.shape)}.",
            remedy="Let the scale vary along one axis, or use version 2.0.0.",
        )
    offsets = (encoding.offset.detach() - _shift(encoding)).to(torch.int64).reshape(-1).tolist()
    entry: Entry = {
        "dtype": "INT",
        "bw": encoding.storage_bits,
        "is_sym": encoding.symmetry,
        "scale": encoding.scale.detach().reshape(-1).tolist(),
        "offset": offsets,
        "enc_type": _TYPES[encoding.granularity],
    }
    if encoding.zero_point_shift:
        entry["zero_point_shift"] = [encoding.zero_point_shift] * len(offsets)
    if encoding.granularity == "blockwise":
        entry["block_size"] = block_length(encoding, shape)[2]
    return entry


def _onnx_attributes(encoding: "AffineEncoding", shape: Sequence[int] | None) -> Entry:
    channel_axis, block_axis, length = block_length(encoding, shape)
    scale, zero_point = encoding.scale.detach(), encoding.zero_point.detach()
    if block_axis is None:
        scale, zero_point = scale.reshape(-1), zero_point.reshape(-1)
        if channel_axis is None:
            scale, zero_point = scale[0], zero_point[0]
    zero_points = zero_point - encoding.zero_point_shift if encoding.zero_point_shift else zero_point
    sign = "" if encoding.qmin < 0 else "u"
    entry: Entry = {"output_dtype": f"{sign}int{encoding.storage_bits}", "y_scale": scale.tolist()}
    entry |= {"y_zero_point": zero_points.tolist()} if bool((zero_points != 0).any()) else {}
    axis = channel_axis if block_axis is None else block_axis
    entry |= {} if axis is None else {"axis": axis}
    return entry if length is None else entry | {"block_size": length}


def _as_beta(entry: Entry, dim: int) -> Entry:
    full = dict.fromkeys(("y_zero_point", "axis", "block_size")) | entry
    return full | {"axis": None if full["axis"] is None else full["axis"] % dim}


def _from_ranges(entries: Sequence[Mapping[str, Any]], shape: Sequence[int] | None) -> Entry:
    first = entries[0] if entries else {}
    if first.get("dtype") != "int":
        raise QuantizerError(f"These are not entries of an affine encoding: {list(entries)}.")
    symmetry = str(first["is_symmetric"]).lower() == "true"
    scale = _shaped([entry["scale"] for entry in entries], shape)
    offset = _shaped([entry["offset"] for entry in entries], scale.shape)
    values = _arguments(scale, offset, int(first["bitwidth"]), symmetry)
    return values | {"zero_point_shift": first.get("zero_point_shift", 0.0)}


def _from_onnx_attributes(entry: Mapping[str, Any], shape: Sequence[int] | None) -> Entry:
    sign, _, bits = str(entry["output_dtype"]).partition("int")
    if not bits or isinstance(entry["y_scale"], Mapping):
        raise QuantizerError(f"This is not an entry of an affine encoding: {dict(entry)}.")
    axis, length = entry.get("axis"), entry.get("block_size")
    if shape is None and length is None and axis is not None and axis < 0:
        shape = (-1, *([1] * (-axis - 1)))
    scale = (
        torch.tensor(entry["y_scale"], dtype=torch.float32) if length else _shaped(entry["y_scale"], shape)
    )
    zero_point = torch.tensor(entry.get("y_zero_point", 0.0), dtype=torch.float32)
    shift = 0.5 if bool((zero_point % 1 != 0).any()) else 0.0
    offset = (-zero_point - shift).reshape(-1).expand(scale.numel()).reshape(scale.shape).clone()
    qmin, qmax = integer_grid(int(bits), not sign)
    symmetric = not sign and bool((offset == 0).all())
    block_size: list[int] | None = None
    if length is not None:
        block_size = [-1 if size == 1 else 1 for size in scale.shape]
        block_size[1 if axis is None else axis] = int(length)
    return {
        "scale": scale,
        "offset": offset,
        "qmin": qmin,
        "qmax": qmax,
        "symmetry": symmetric,
        "zero_point_shift": shift,
        "block_size": block_size,
    }


def _arguments(scale: torch.Tensor, offset: torch.Tensor, bits: int, symmetry: bool) -> Entry:
    """Return the arguments of an encoding of versions before 2, which are signed when symmetric."""
    signed = symmetry and bool((offset == -(2 ** (bits - 1))).all())
    qmin, qmax = integer_grid(bits, signed)
    return {"scale": scale, "offset": offset - qmin, "qmin": qmin, "qmax": qmax, "symmetry": symmetry}


def _shaped(values: Any, shape: Sequence[int] | None) -> torch.Tensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    if tensor.numel() == 1 and not shape:
        return tensor.reshape(())
    if shape is None:
        raise QuantizerError(
            f"The entry has {tensor.numel()} scales, but does not say along which axis.",
            remedy="Pass the shape of scale, such as (out, 1, 1, 1).",
        )
    if -1 not in shape and tensor.numel() not in (1, torch.Size(shape).numel()):
        raise QuantizerError(f"{tensor.numel()} scales do not fit the shape {tuple(shape)}.")
    if -1 not in shape:
        tensor = tensor.expand(torch.Size(shape).numel()) if tensor.numel() == 1 else tensor
    return tensor.reshape(tuple(shape))
