"""MappedMemory, release: which tensors lie in files, and giving back the memory their pages take.

What Linux says of the process itself decides, not how a tensor was made: so tensors of ``torch.load(mmap=True)``
and of safetensors count too. On other systems no tensor counts as mapped: everything works, and takes the memory
of the whole model.

A page that was only read can be dropped without loss, it is read from the file again. One that was written is
this process's own copy, and is kept: /proc/self/pagemap tells the two apart.
"""

import bisect
import ctypes
import functools
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fxquant.storage.mapping import span

_MAPS, _PAGES = Path("/proc/self/maps"), "/proc/self/pagemap"
_DONTNEED = 4  # of madvise
_IS_PRESENT, _IS_SWAPPED, _IS_FILE = (np.uint64(1 << bit) for bit in (63, 62, 61))


@dataclass(frozen=True, kw_only=True)
class Region:
    """A stretch of memory that a file is mapped to, privately.

    Attributes:
        start: Its first address.
        end: The address after its last one.
        offset: Where in the file it begins, in bytes.
        path: The file.
    """

    start: int
    end: int
    offset: int
    path: Path


class MappedMemory:
    """The files that are mapped into this process now."""

    def __init__(self) -> None:
        self._regions = _regions()
        self._starts = [region.start for region in self._regions]

    def region_of(self, tensor: torch.Tensor) -> Region | None:
        """Return where a tensor lies; None for one that does not lie in a file."""
        if not self._regions or not _is_plain(tensor):
            return None
        address, size = extent(tensor)
        found = bisect.bisect_right(self._starts, address) - 1
        if found < 0 or not size or address + size > self._regions[found].end:
            return None
        return self._regions[found]

    def is_unwritten(self, tensor: torch.Tensor) -> bool:
        """Whether a mapped tensor holds what the file holds, because nobody wrote into its memory."""
        pages = _pages(*_whole_pages(*extent(tensor)))
        return pages is not None and not bool(_written(pages).any())


def release(tensors: Iterable[torch.Tensor]) -> None:
    """Give back the memory of mapped tensors; what is read of them later is read from the file again.

    Tensors keep what was written into them. Those that lie in no file are left alone.
    """
    for tensor in tensors:
        if not _is_plain(tensor) or not tensor.numel():
            continue
        start, end = _whole_pages(*extent(tensor))
        pages = _pages(start, end)
        if pages is None:
            return
        droppable = ((pages & _IS_PRESENT) != 0) & ((pages & _IS_FILE) != 0)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], droppable, [False])).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            address, size = start + first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE
            _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _DONTNEED)


def extent(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the address of a tensor in memory, and how many bytes lie from its first to its last one."""
    if not tensor.numel():
        return tensor.data_ptr(), 0
    return tensor.data_ptr(), span(tensor.shape, tensor.stride()) * tensor.element_size()


def _is_plain(tensor: torch.Tensor) -> bool:
    is_own = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return is_own and tensor.device.type == "cpu" and tensor.layout is torch.strided


def _whole_pages(address: int, size: int) -> tuple[int, int]:
    first = address // mmap.PAGESIZE * mmap.PAGESIZE
    return first, -(-(address + size) // mmap.PAGESIZE) * mmap.PAGESIZE


def _pages(start: int, end: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]] | None":
    """Return Linux's notes on pages of this process (admin-guide/mm/pagemap); None where it keeps none."""
    try:
        file = os.open(_PAGES, os.O_RDONLY)
    except OSError:
        return None
    try:
        count = (end - start) // mmap.PAGESIZE
        notes = os.pread(file, count * 8, start // mmap.PAGESIZE * 8)
    except OSError:
        return None
    finally:
        os.close(file)
    return np.frombuffer(notes, dtype=np.uint64) if len(notes) == count * 8 else None


def _written(
    pages: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    is_held = (pages & (_IS_PRESENT | _IS_SWAPPED)) != 0
    return is_held & ((pages & _IS_FILE) == 0)


def _regions() -> list[Region]:
    """Return the private mappings of files that are still where they were, by address."""
    try:
        lines = _MAPS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, rights, offset, device, inode, *path = line.split(maxsplit=5)
        if inode == "0" or not path or rights[3] != "p":
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        if _is_file(path[0], device, int(inode)):
            found.append(Region(start=start, end=end, offset=int(offset, 16), path=Path(path[0])))
    return found


@functools.lru_cache(maxsize=4096)
def _is_file(path: str, device: str, inode: int) -> bool:
    """Whether a path still leads to the file that was mapped."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    major, minor = (int(number, 16) for number in device.split(":"))
    return (status.st_ino, status.st_dev) == (inode, os.makedev(major, minor))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
