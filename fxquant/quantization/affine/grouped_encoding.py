"""GroupedBlockEncoding: an affine encoding of blocks in groups, and its entries of encodings files."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fxquant.errors import QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import AffineEncoding, as_block_size
from fxquant.quantization.affine.encoding_dict import affine_from_dict
from fxquant.quantization.base.encoding import EncodingBase


class GroupedBlockEncoding(AffineEncoding):
    """An affine encoding whose scales are whole multiples of one scale per group of blocks.

    Args:
        scale: Real size of one step of each block.
        offset: Zeros of the same shape.
        *args: bitwidth, signed, symmetry and block_size, as in AffineEncoding.
        block_grouping: Number of blocks in a group by axis, -1 for all; None for one each.
        decompressed_bw: Bitwidth of decompressed weights, at least the bitwidth.
        per_channel_scale: Scale of each group.
        **kwargs: As in AffineEncoding.
    """

    def __init__(
        self,
        scale: torch.Tensor,
        offset: torch.Tensor,
        *args: Any,
        block_grouping: Sequence[int] | None = None,
        decompressed_bw: int | None = None,
        per_channel_scale: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(scale, offset, *args, **kwargs)
        self.block_grouping = as_block_size(block_grouping) or (1,) * scale.dim()
        self.decompressed_bw = self.bitwidth if decompressed_bw is None else decompressed_bw
        self.per_channel_scale = scale if per_channel_scale is None else per_channel_scale

    @property
    def per_block_int_scale(self) -> torch.Tensor:
        """Scale of each block in units of its group's: whole numbers in a float tensor."""
        return functional.quantize(
            self.scale,
            self.per_channel_scale,
            torch.zeros_like(self.per_channel_scale),
            1,
            2 ** (self.decompressed_bw - self.bitwidth),
            self.block_grouping,
        )

    def to_qnn_encoding_dict(
        self, encoding_version: str | None = None, shape: Sequence[int] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        entry = super().to_qnn_encoding_dict(encoding_version, shape)
        if isinstance(entry, list) or all(size == 1 for size in self.block_grouping):
            return entry  # 0.6.1 has no word for groups; groups of one block are plain blocks
        multiples = self.per_block_int_scale.detach().to(torch.int32)
        scales = self.per_channel_scale.detach()
        if "enc_type" in entry:
            flat = scales.reshape(-1).tolist()
            return entry | {
                "bw": self.decompressed_bw,
                "compressed_bw": self.bitwidth,
                "scale": flat,
                "offset": [-(2 ** (self.decompressed_bw - 1))] * len(flat),
                "enc_type": "LPBQ",
                "per_block_int_scale": multiples.reshape(-1).tolist(),
            }
        if str(encoding_version).startswith("2.0.0"):
            del entry["y_scale"]
            groups = {"per_block_int_scale": multiples.tolist(), "per_channel_float_scale": scales.tolist()}
            return entry | groups | {"output_dtype": entry.pop("output_dtype")}  # last, as AIMET writes it
        channel_axis = next(axis - scales.dim() for axis, size in enumerate(scales.shape) if size > 1)
        x_scale = {"x": multiples.tolist(), "x_scale": scales.reshape(-1).tolist(), "axis": channel_axis}
        return entry | {"y_scale": x_scale}

    def scaled(self, factor: float) -> AffineEncoding | None:
        scaled: Any = super().scaled(factor)
        if scaled is not None:
            scaled.per_channel_scale = self.per_channel_scale * abs(factor)
        return scaled  # type: ignore[no-any-return]  # of this class

    def rows(self, shape: torch.Size, index: torch.Tensor) -> EncodingBase:
        """Return a plain encoding: picked rows are no longer in the groups they were in."""
        return AffineEncoding(
            self.scale,
            self.offset,
            self.qmin,
            self.qmax,
            self.symmetry,
            self.block_size,
            producer=self.producer,
        ).rows(shape, index)

    @classmethod
    def from_qnn_encoding_dict(
        cls, entry: Any, shape: Sequence[int] | None = None, group_shape: Sequence[int] | None = None
    ) -> "GroupedBlockEncoding":
        """Return the encoding of an LPBQ entry of version 1.0.0, 2.0.0 or 2.1.0.

        Args:
            entry: What ``to_qnn_encoding_dict`` returns.
            shape: Shape of scale, such as (out, blocks); needed for version 1.0.0.
            group_shape: Shape of the scales of groups, which version 1.0.0 does not say; by default one for
                each row of the first axis.

        Raises:
            QuantizerError: If the entry is no LPBQ entry, or a shape is missing or does not fit.
        """
        multiples, groups = _scales_of_entry(entry, shape, group_shape)
        if "compressed_bw" in entry:
            bits, wide = int(entry["compressed_bw"]), int(entry["bw"])
        else:
            bits = int(str(entry["output_dtype"]).removeprefix("int"))
            wide = bits + int(multiples.max()).bit_length() - 1
        blocks = affine_from_dict(
            {"output_dtype": f"int{bits}", "y_scale": multiples.tolist(), "axis": entry.get("axis", 1)}
            | {"block_size": entry["block_size"]},
            None,
        )["block_size"]
        return cls(
            multiples * groups,
            torch.zeros_like(multiples),
            bits,
            True,
            True,
            blocks,
            block_grouping=[-1 if g == 1 else 1 for g in groups.shape],
            decompressed_bw=wide,
            per_channel_scale=groups,
        )


def _scales_of_entry(
    entry: Mapping[str, Any], shape: Sequence[int] | None, group_shape: Sequence[int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the whole multiple of each block, of the shape of scale, and the scale of each group."""
    nested = entry.get("y_scale")
    if isinstance(nested, Mapping):
        multiples = torch.tensor(nested["x"], dtype=torch.float32)
        along = [1] * multiples.dim()
        along[nested["axis"]] = -1
        return multiples, torch.tensor(nested["x_scale"], dtype=torch.float32).reshape(along)
    if "per_block_int_scale" not in entry:
        raise QuantizerError("This is not an entry of an LPBQ encoding: it has no per_block_int_scale.")
    multiples = torch.tensor(entry["per_block_int_scale"], dtype=torch.float32)
    if "per_channel_float_scale" in entry:
        return multiples, torch.tensor(entry["per_channel_float_scale"], dtype=torch.float32)
    if shape is None:
        raise QuantizerError("An LPBQ entry of version 1.0.0 needs the shape of scale.")
    groups = torch.tensor(entry["scale"], dtype=torch.float32)
    group_shape = (shape[0], *([1] * (len(shape) - 1))) if group_shape is None else tuple(group_shape)
    if (multiples.numel(), groups.numel()) != (math.prod(shape), math.prod(group_shape)):
        raise QuantizerError(
            f"{groups.numel()} scales and {multiples.numel()} multiples do not fit the shape {tuple(shape)}."
        )
    return multiples.reshape(tuple(shape)), groups.reshape(group_shape)
