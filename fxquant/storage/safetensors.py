"""SafetensorsFile: where each tensor of a safetensors file lies.

The format (https://huggingface.co/docs/safetensors): 8 bytes hold the little-endian length of a JSON header,
the header holds each tensor's type, shape and place in bytes, counted from the header's end.
"""

import json
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fxquant.errors import ModelFileError
from fxquant.storage.mapping import map_file, tensor_at

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LARGEST_HEADER = 100 << 20  # bytes, the format's own limit


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor lies.

    Attributes:
        dtype: Its type.
        shape: Its sizes.
        offset: Its first byte in the file.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


class SafetensorsFile:
    """A safetensors file, mapped into memory.

    Args:
        path: The file.

    Attributes:
        places: Where each tensor lies, by name.

    Raises:
        ModelFileError: If it cannot be read, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._memory: mmap.mmap = map_file(path)
            length = int.from_bytes(self._memory[:8], "little")
            if not 0 < length <= min(_LARGEST_HEADER, len(self._memory) - 8):
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(self._memory[8 : 8 + length])
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            self.places = {
                name: _place(name, entry, 8 + length, len(self._memory)) for name, entry in entries.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"'{path}' cannot be read as a safetensors file: {error}.",
                remedy="Name a file that safetensors wrote, or a folder of them.",
            ) from error

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor whose memory is the file's; it is read when it is used."""
        place = self.places[name]
        return tensor_at(self._memory, place.offset, place.dtype, place.shape)


def _place(name: str, entry: dict[str, Any], start: int, end: int) -> Place:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"'{name}' has the unknown type {entry['dtype']}")
    dtype, shape = _DTYPES[entry["dtype"]], tuple(int(size) for size in entry["shape"])
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= end - start or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"'{name}' does not fit into the file, which may be cut off")
    return Place(dtype=dtype, shape=shape, offset=start + first)
