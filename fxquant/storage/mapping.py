"""map_file, tensor_at: a file as memory, whose pages are read when touched and copied when written."""

import math
import mmap
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

_IS_LINUX = platform.system() == "Linux"
_NO_RESERVE = 0x4000  # MAP_NORESERVE, which Python names since 3.13: a file may be larger than memory


def map_file(path: Path, inode: int | None = None) -> mmap.mmap:
    """Map a whole file privately: writing changes the memory alone, never the file.

    Args:
        path: The file.
        inode: Its number, if it has to be a certain one.

    Raises:
        OSError: If it cannot be read, or is another file by now.
        ValueError: If it is empty.
    """
    with path.open("rb") as file:
        if inode is not None and os.fstat(file.fileno()).st_ino != inode:
            raise FileNotFoundError(f"{path} is another file by now")
        if _IS_LINUX:
            flags = mmap.MAP_PRIVATE | _NO_RESERVE
            return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def tensor_at(
    mapped: mmap.mmap,
    offset: int,
    dtype: torch.dtype,
    shape: Sequence[int],
    stride: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return a tensor that lies in a mapped file, with a storage of its own size; it keeps the mapping open.

    Args:
        mapped: What ``map_file`` returned.
        offset: Where it begins, in bytes.
        dtype: Its type. Where the offset is no multiple of the type's size, the tensor is copied.
        shape: Its sizes.
        stride: Its strides in elements; None for a contiguous one.
    """
    if math.prod(shape) == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    size = span(shape, stride)
    if offset % dtype.itemsize:
        raw = torch.frombuffer(mapped, dtype=torch.uint8, count=size * dtype.itemsize, offset=offset)
        flat = raw.clone().view(dtype)
    else:
        flat = torch.frombuffer(mapped, dtype=dtype, count=size, offset=offset)
    return flat.view(tuple(shape)) if stride is None else flat.as_strided(tuple(shape), tuple(stride))


def span(shape: Sequence[int], stride: Sequence[int] | None = None) -> int:
    """Return how many elements lie from the first to the last one of a tensor that has any."""
    if stride is None:
        return math.prod(shape)
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
