"""Float encodings as entries of Qualcomm encodings files, versions 0.6.1, 1.0.0, 2.0.0 and 2.1.0.

0.6.1 and 1.0.0 know 16-bit types without a scale only, and do not tell float16 from bfloat16: entries are
read as float16. 2.x are the attributes of ONNX QuantizeLinear; there a 16-bit type is not a quantized one,
and its entry is empty.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from fxquant.errors import QuantizerError, unknown_option
from fxquant.quantization.affine.encoding_dict import VERSIONS, affine_from_dict, block_length
from fxquant.quantization.float.float_type import BFLOAT16, FLOAT16, FloatType

if TYPE_CHECKING:
    from fxquant.quantization.float.encoding import FloatEncoding

Entry = dict[str, Any]


def float_to_dict(
    encoding: "FloatEncoding", version: str | None, shape: Sequence[int] | None
) -> Entry | list[Entry]:
    """Return the entry of an encoding, without the tensor's name.

    Args:
        encoding: What to write.
        version: One of ``VERSIONS``; beta versions count as the version itself.
        shape: Shape of the encoded tensor, needed for blocks of size -1; None where there are none.

    Raises:
        OptionError: If there is no such version.
        QuantizerError: If the format has no way to say what the encoding says.
    """
    version = (version or VERSIONS[1]).removesuffix(".beta")
    if version not in VERSIONS:
        raise unknown_option("encoding version", version, VERSIONS)
    has_16_bits = encoding.float_type in (FLOAT16, BFLOAT16)
    if (has_16_bits or version in VERSIONS[:2]) and not (has_16_bits and encoding.has_unit_scale):
        reason = "got non-1 scale" if has_16_bits else f"got dtype={encoding.float_type}"
        raise QuantizerError(
            f"v{version} floating point encoding only supports float16/bfloat16 with scale=1; {reason}.",
            remedy="Write 8-bit and 4-bit types as version 2.0.0; leave the scale of 16-bit types at 1.",
        )
    if version == "0.6.1":
        return [{"bitwidth": encoding.bitwidth, "dtype": "float"}]
    if version == "1.0.0":
        return {"dtype": "FLOAT", "bw": encoding.bitwidth, "enc_type": "PER_TENSOR"}
    return {} if has_16_bits else _onnx_attributes(encoding, shape)


def float_from_dict(
    entry: Mapping[str, Any] | Sequence[Mapping[str, Any]], shape: Sequence[int] | None
) -> Entry:
    """Return the keyword arguments of the FloatEncoding that an entry of any version stands for.

    Args:
        entry: As ``float_to_dict`` returns it.
        shape: Shape of scale; None for one scale, or where version 2 says the axis or nests the lists.

    Raises:
        QuantizerError: If the entry is not a float one, or the shape is missing or does not fit.
    """
    first = entry if isinstance(entry, Mapping) else next(iter(entry), {})
    if "y_scale" in first:
        return _from_onnx_attributes(first, shape)
    bits = first.get("bitwidth", first.get("bw"))
    if str(first.get("dtype")).lower() != "float" or bits != FLOAT16.bitwidth:
        raise QuantizerError(
            f"This is not an entry of a float encoding: {entry}.",
            remedy="Before version 2 it has 16 bits; in version 2 a 16-bit type has no entry.",
        )
    return _arguments(FLOAT16) | {"scale": torch.ones(())}


def _onnx_attributes(encoding: "FloatEncoding", shape: Sequence[int] | None) -> Entry:
    if encoding.float_type.onnx_dtype is None:
        raise QuantizerError(
            f"ONNX has no type for {encoding.float_type}.", remedy="Use an 8-bit or 4-bit type of ONNX."
        )
    channel_axis, block_axis, length = block_length(encoding, shape)
    scale = encoding.scale.detach()
    if block_axis is None:
        scale = scale.reshape(()) if channel_axis is None else scale.reshape(-1)
    entry: Entry = {"output_dtype": encoding.float_type.onnx_dtype, "y_scale": scale.tolist()}
    axis = channel_axis if block_axis is None else block_axis
    entry |= {} if axis is None else {"axis": axis}
    return entry if length is None else entry | {"block_size": length}


def _from_onnx_attributes(entry: Mapping[str, Any], shape: Sequence[int] | None) -> Entry:
    name = str(entry.get("output_dtype"))
    if not name.startswith("float") or isinstance(entry["y_scale"], Mapping):
        raise QuantizerError(f"This is not an entry of a float encoding: {dict(entry)}.")
    # shapes of scales and blocks are those of an affine entry
    grid = affine_from_dict({**entry, "output_dtype": "int8"}, shape)
    return _arguments(FloatType.of_onnx(name)) | {name: grid[name] for name in ("scale", "block_size")}


def _arguments(float_type: FloatType) -> Entry:
    names = ("mantissa_bits", "exponent_bits", "finite", "unsigned_zero")
    return {name: getattr(float_type, name) for name in names}
