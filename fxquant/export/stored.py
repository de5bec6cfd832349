"""Stored: the numbers of one quantizer as ONNX writes them: codes, scales, zero points, axis, block size."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch

from fxquant.export.sites import Site
from fxquant.quantization import AffineEncoding, EncodingBase


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Scales of blocks as whole multiples of a scale per channel (LPBQ).

    Attributes:
        multiples: uint8, one per block, of the shape of the scale.
        scale: float32 [channels].
        axis: Axis of the channels.
    """

    multiples: np.ndarray
    scale: np.ndarray
    axis: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The numbers of one quantizer.

    Attributes:
        codes: The codes of a constant, in their type; empty for an activation.
        scale: float32: [] for one per tensor, [channels], or blocks: the shape of codes, shorter along axis.
        zero_point: The codes of real zero: of the shape of scale, in the type of the codes; None for int32.
        axis: Axis of the channels, or that is cut into blocks; None for one scale.
        block_size: Number of elements along axis that share a scale; 0 without blocks.
        groups: Where the scales of blocks are multiples of others.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None
    axis: int | None = None
    block_size: int = 0
    groups: Groups | None = None

    @classmethod
    def of(cls, site: Site, codes: np.ndarray | None) -> "Stored":
        """Return the numbers of a site.

        Args:
            site: The site.
            codes: Its codes; None for an activation.
        """
        encoding, dtype = site.encoding, site.dtype
        held = np.empty(0) if codes is None else codes
        if codes is not None and codes.dtype != dtype.numpy():
            held = codes.astype(dtype.numpy())
        channel, block = encoding.axes(site.shape)
        axis = channel if block is None else block
        scale, zero_point = _numbers(encoding, encoding.scale), _zero_point(encoding)
        if axis is None:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        elif block is None:
            scale, zero_point = scale.reshape(-1), zero_point.reshape(-1)
        else:
            shape = list(site.shape)
            shape[axis] = encoding.scale.shape[axis]
            scale, zero_point = np.broadcast_to(scale, shape), np.broadcast_to(zero_point, shape)
        return cls(
            codes=held,
            scale=np.array(scale, order="C"),
            zero_point=None if dtype is ir.DataType.INT32 else zero_point.astype(dtype.numpy()),
            axis=None if axis is None else axis % max(len(site.shape), 1),
            block_size=0 if block is None else site.shape[block] // encoding.scale.shape[block],
            groups=None if block is None else _groups(site, channel, scale.shape),
        )

    def permuted(self, order: list[int]) -> "Stored":
        """Return the numbers of the transposed constant.

        Args:
            order: For each dimension of the result, the dimension it was.
        """
        moved = replace(self, codes=np.ascontiguousarray(self.codes.transpose(order)))
        if self.axis is None:
            return moved
        moved = replace(moved, axis=order.index(self.axis))
        if not self.block_size:
            return moved
        assert self.zero_point is not None
        turned = replace(
            moved,
            scale=np.ascontiguousarray(self.scale.transpose(order)),
            zero_point=np.ascontiguousarray(self.zero_point.transpose(order)),
        )
        groups = self.groups
        if groups is None:
            return turned
        multiples = np.ascontiguousarray(groups.multiples.transpose(order))
        return replace(turned, groups=replace(groups, multiples=multiples, axis=order.index(groups.axis)))


def _groups(site: Site, channel: int | None, shape: tuple[int, ...]) -> Groups | None:
    encoding = site.groups
    if encoding is None or channel is None:
        return None
    multiples = _numbers(encoding, encoding.per_block_int_scale)
    return Groups(
        multiples=np.ascontiguousarray(np.broadcast_to(multiples, shape)).astype(np.uint8),
        scale=_numbers(encoding, encoding.per_channel_scale).reshape(-1),
        axis=channel % len(site.shape),
    )


def _zero_point(encoding: EncodingBase) -> np.ndarray:
    if not isinstance(encoding, AffineEncoding):
        return np.zeros(tuple(encoding.scale.shape), np.float32)
    return encoding.zero_point.detach().cpu().numpy()


def _numbers(encoding: EncodingBase, numbers: torch.Tensor) -> np.ndarray:
    """Return scales in float32, with as many dimensions as the encoding's."""
    return np.asarray(numbers.detach().float().cpu().numpy())
