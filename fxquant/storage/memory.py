"""MappedMemory, release: which tensors lie in files, and giving back the memory their pages take.

What Linux says of the process itself decides, not how a tensor was made: so tensors of
``torch.load(mmap=True)`` and of safetensors count too. On other systems no tensor counts as mapped:
everything works, and takes the memory of the whole model.

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
import numpy.typing as npt
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
        inode: The file's number, by which to know it again.
        path: Where the file was when it was mapped.
    """

    start: int
    end: int
    offset: int
    inode: int
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
        if pages is None:
            return False
        is_own = _have(pages, _IS_PRESENT | _IS_SWAPPED) & ~_have(pages, _IS_FILE)
        return not bool(is_own.any())


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
        droppable = _have(pages, _IS_PRESENT) & _have(pages, _IS_FILE)
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


def _pages(start: int, end: int) -> "npt.NDArray[np.uint64] | None":
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


def _have(pages: "npt.NDArray[np.uint64]", notes: np.uint64) -> "npt.NDArray[np.bool_]":
    """Return which pages have one of some notes."""
    found: npt.NDArray[np.bool_] = np.not_equal(pages & notes, 0)
    return found


def _regions() -> list[Region]:
    """Return the private mappings of files, by address (proc(5), "maps")."""
    try:
        lines = _MAPS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        addresses, rights, offset, _, inode, *path = line.split(maxsplit=5)
        if inode != "0" and path and rights[3] == "p":
            start, end = (int(address, 16) for address in addresses.split("-"))
            place = {"start": start, "end": end, "offset": int(offset, 16), "inode": int(inode)}
            found.append(Region(**place, path=Path(path[0])))
    return found


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
