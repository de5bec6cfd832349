"""EncodingBase: what every encoding offers, affine or float."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization.blocks import concrete_block_size

if TYPE_CHECKING:
    from fxquant.quantization.base.quantizer import QuantizerBase


class EncodingBase(ABC):
    """The found numbers that map a tensor onto a grid. Values, never trained: make a new one to change one.

    Attributes:
        scale: Real size of one step, positive. Shape [] for one per tensor; otherwise a shape that broadcasts
            against the tensor, such as [out, 1, 1, 1], or one entry per block.
        block_size: Block sizes by axis, -1 for what is left; None without blocks.
        producer: The quantizer that found the encoding; None if there is none.
    """

    scale: torch.Tensor
    block_size: Sequence[int] | None = None
    producer: "QuantizerBase | None" = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "producer": None}  # copies and files do not drag the quantizer along

    @property
    @abstractmethod
    def mapping(self) -> str:
        """Kind of grid: "affine" or "float"."""

    @property
    @abstractmethod
    def bitwidth(self) -> int:
        """Bits of one code."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type to hold codes in."""

    @abstractmethod
    def quantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor, in its float type."""

    def to_codes(self, input: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor, in the type that holds them."""
        return self.quantize(input).to(self.dtype)

    @abstractmethod
    def dequantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the real values of codes."""

    @abstractmethod
    def quantize_dequantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the nearest real values on the grid, in the tensor's float type."""

    @abstractmethod
    def to_qnn_encoding_dict(
        self, encoding_version: str | None = None, shape: Sequence[int] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the entry of an encodings file: a dict, for 0.6.1 a list of them, one per scale.

        Args:
            encoding_version: "0.6.1", "1.0.0", "2.0.0" or "2.1.0".
            shape: Shape of the encoded tensor; only blocks of size -1 need it.

        Raises:
            OptionError: If there is no such version.
            QuantizerError: If the version cannot say what the encoding says.
        """

    @property
    def granularity(self) -> str:
        """What one scale serves: "pertensor", "perchannel", "blockwise", or "unknown" for several axes."""
        if self.scale.dim() == 0:
            return "pertensor"
        if self.block_size is not None:
            return "blockwise"
        return "perchannel" if sum(size > 1 for size in self.scale.shape) <= 1 else "unknown"

    def map_tensors(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """Return a copy with a function applied to each of its tensors."""
        changed = copy.copy(self)
        changed.producer = self.producer
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(changed, name, function(value))
        return changed

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return the encoding on another device or in another float type, as Tensor.to; itself if it is so.

        Raises:
            QuantizerError: If the type is not a float type.
        """
        scale = self.scale.to(*args, **kwargs)
        if not scale.is_floating_point():
            raise QuantizerError(
                f"Cannot change encoding data dtype to {scale.dtype}: it is not a float type."
            )
        if scale is self.scale:
            return self
        return self.map_tensors(lambda tensor: tensor.to(scale.device, scale.dtype))

    def scaled(self, factor: float) -> "EncodingBase | None":
        """Return the encoding of ``factor`` times what this one encodes; None if there is none."""
        return None

    def rows(self, shape: torch.Size, index: torch.Tensor) -> "EncodingBase":
        """Return the encoding of a table's rows picked by index.

        Args:
            shape: Shape of the table, [rows, columns].
            index: Integers of any shape; the rows have shape [*index.shape, columns].
        """
        if self.scale.dim() == 0:
            return self.map_tensors(torch.clone)
        counts = (1,) * (2 - self.scale.dim()) + self.scale.shape
        blocks = concrete_block_size(shape, counts, self.block_size or ())

        def pick(numbers: torch.Tensor) -> torch.Tensor:
            table = numbers.reshape(counts)
            if counts[0] > 1:
                return F.embedding(index // blocks[0], table)
            return table.reshape(*(1,) * index.dim(), -1)

        picked = self.map_tensors(pick)
        if self.block_size is not None:
            picked.block_size = (*([-1] * index.dim()), blocks[1])
        return picked

    def axes(self, shape: torch.Size | tuple[int, ...]) -> tuple[int | None, int | None]:
        """Return the channel axis and the block axis, counted from the last; None for one that is not there.

        Args:
            shape: Shape of the tensor that is encoded.

        Raises:
            QuantizerError: If the scale varies along more axes than files can say.
        """
        blocks = concrete_block_size(shape, self.scale.shape, self.block_size or ())
        varying = [
            (axis - self.scale.dim(), block)
            for axis, (size, block) in enumerate(zip(self.scale.shape, blocks, strict=True))
            if size > 1
        ]
        channel_axes = [axis for axis, block in varying if block == 1]
        block_axes = [axis for axis, block in varying if block > 1]
        if len(channel_axes) > 1 or len(block_axes) > 1 or (block_axes and not channel_axes):
            raise QuantizerError(
                f"A scale of shape {tuple(self.scale.shape)} with block size {self.block_size} has no unique "
                "channel and block axis.",
                remedy="Let it vary along one channel axis, and blocks along one other.",
            )
        return next(iter(channel_axes), None), next(iter(block_axes), None)
