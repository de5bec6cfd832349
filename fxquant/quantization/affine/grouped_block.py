"""Low power blockwise quantization (LPBQ): scales of blocks that are whole multiples of one per group.

With s_b the scale that a block would have, w and W the bitwidths of codes and of decompressed weights::

    scale_group   = max(s_b in the group) / 2^(W - w)
    integer_scale = clamp(round(s_b / scale_group), 1, 2^(W - w))
    scale_b       = integer_scale * scale_group

so that codes times integer scales are integers of W bits on one grid per group, which a per-channel kernel
multiplies (Qualcomm AI Engine Direct; AIMET's GroupedBlockQuantizeDequantize).
"""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import AffineEncoding, as_block_size
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.affine.quantizer import QuantizeDequantize
from fxquant.quantization.blocks import in_blocks
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer


class GroupedBlockQuantizeDequantize(QuantizeDequantize):
    """Puts a weight on grids per block whose scales are whole multiples of one per group (LPBQ).

    Args:
        shape: Number of blocks by axis.
        bitwidth: Bits of a code.
        symmetric: True: nothing else is possible.
        decompressed_bw: Bits of a decompressed weight, at least bitwidth.
        encoding_analyzer: Finds the range during calibration; min-max by default.
        block_size: Block sizes by axis, -1 for what is left.
        block_grouping: Number of blocks in a group by axis, -1 for all of them; None for one each, which is
            plain blockwise quantization.

    Raises:
        QuantizerError: If the grouping does not divide the shape, the wide grid is narrower than the narrow
            one, or symmetric is False.
    """

    encoding_class = GroupedBlockEncoding

    def __init__(
        self,
        shape: tuple[int, ...] | int,
        bitwidth: int,
        symmetric: bool,
        decompressed_bw: int,
        encoding_analyzer: EncodingAnalyzer | None = None,
        block_size: Sequence[int] | None = None,
        block_grouping: Sequence[int] | None = None,
    ) -> None:
        super().__init__(shape, bitwidth, symmetric, encoding_analyzer, block_size)
        self.decompressed_bw = decompressed_bw
        self.block_grouping = as_block_size(block_grouping) or (1,) * len(self.shape)
        self.symmetric = symmetric
        if len(self.block_grouping) != len(self.shape):
            raise QuantizerError(
                f"Length of block grouping {self.block_grouping} must equal length of shape {self.shape}."
            )
        if any(
            group != -1 and (group < 1 or size % group)
            for size, group in zip(self.shape, self.block_grouping, strict=True)
        ):
            raise QuantizerError(
                f"Block grouping {self.block_grouping} does not divide the number of blocks {self.shape}.",
                remedy="Use -1 to group all blocks of an axis.",
            )
        self._check_decompressed(bitwidth)

    @property
    def symmetric(self) -> bool:
        """Whether zero lies in the middle of the grid: True, and nothing else can be set."""
        return True

    @symmetric.setter
    def symmetric(self, symmetric: bool) -> None:
        if not symmetric:
            raise QuantizerError(f"{type(self).__name__} only supports symmetric quantization.")

    @property
    def bitwidth(self) -> int:
        """Bits of one code, at most ``decompressed_bw``."""
        return super().bitwidth

    @bitwidth.setter
    def bitwidth(self, bitwidth: int) -> None:
        self._check_decompressed(bitwidth)
        QuantizeDequantize.bitwidth.fset(self, bitwidth)  # type: ignore[attr-defined]  # of a property

    def _check_decompressed(self, bitwidth: int) -> None:
        if self.decompressed_bw < bitwidth:
            raise QuantizerError(
                f"Decompressed bitwidth {self.decompressed_bw} cannot be smaller than bitwidth {bitwidth}."
            )

    @classmethod
    def _on_grid_of(cls, encoding: Any) -> Self:
        return cls(
            tuple(encoding.scale.shape),
            encoding.bitwidth,
            encoding.symmetry,
            encoding.decompressed_bw,
            block_size=encoding.block_size,
            block_grouping=encoding.block_grouping,
        )

    def get_per_channel_scale(self, dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Return the scale of each group of blocks; None before calibration."""
        return self._groups(super()._scale_and_offset(dtype)[0]) if self.is_initialized() else None

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of a QuantizeDequantize and how blocks are grouped."""
        grouping = {"decompressed_bw": self.decompressed_bw, "block_grouping": self.block_grouping}
        state: Any = super().get_extra_state()
        if not isinstance(state, dict):
            return state  # type: ignore[no-any-return]  # an export asks
        return state | {name: torch.tensor(value) for name, value in grouping.items()}

    def set_extra_state(self, state: Any) -> None:
        super().set_extra_state(state)
        if "decompressed_bw" in state:
            self.decompressed_bw = int(state["decompressed_bw"])
            self.block_grouping = tuple(state["block_grouping"].tolist())

    @property
    def group_shape(self) -> tuple[int, ...]:
        """Number of groups of blocks by axis."""
        sizes = zip(self.shape, self.block_grouping, strict=True)
        return tuple(1 if group == -1 else size // group for size, group in sizes)

    def _groups(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the scale of each group from the scales that the blocks would have on their own."""
        grouped = in_blocks(scale, self.group_shape, self.block_grouping)[0]
        largest = torch.amax(grouped, dim=tuple(range(1, grouped.dim(), 2)))
        return largest / (1 << (self.decompressed_bw - self.bitwidth))

    def _scale_and_offset(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        raw, offset = super()._scale_and_offset(dtype)
        return self._on_group_grid(raw, self._groups(raw)), offset

    def _dynamic_encoding(self, statistics: Any) -> AffineEncoding:
        raw = super()._dynamic_encoding(statistics)
        return self._encoding(self._on_group_grid(raw.scale, self._groups(raw.scale)), raw.offset)

    def _on_group_grid(self, raw: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        largest = 2 ** (self.decompressed_bw - self.bitwidth)
        zeros = torch.zeros_like(groups)
        return functional.quantize_dequantize(raw, groups, zeros, 1, largest, self.block_grouping)

    def _encoding(self, scale: torch.Tensor, offset: torch.Tensor) -> GroupedBlockEncoding:
        is_blockwise = scale.dim() == len(self.shape)
        return GroupedBlockEncoding(
            scale,
            offset,
            self.bitwidth,
            self.signed,
            self.symmetric,
            self.block_size,
            block_grouping=self.block_grouping if is_blockwise else None,
            decompressed_bw=self.decompressed_bw,
            per_channel_scale=self._groups(scale) if is_blockwise else scale,
            producer=self,
        )
