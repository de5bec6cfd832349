"""Offload, Boundary: where values wait between two blocks of a blockwise run, in memory or on disk."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree
from typing_extensions import Self

from fxquant.errors import OffloadError, OptionError, first_line
from fxquant.storage import span

_SMALL = 1 << 16  # bytes: a file for less saves nothing


@dataclass(frozen=True, kw_only=True)
class Offload:
    """How a model that does not fit into memory, or onto a device, is run block by block.

    Attributes:
        activations: Where the values between two blocks wait: "cpu", in memory; or "disk", in files that are
            removed at the end, also after an error.
        folder: The folder for those files; None for the system's temporary one.
        device: Where the blocks run; None for where the parameters are.
        block_bytes: How many bytes of parameters a block holds at most; a layer that has more is a block
            alone.

    Raises:
        OptionError: If activations is none of the two, or block_bytes is not positive.
    """

    activations: str = "cpu"
    folder: str | Path | None = None
    device: torch.device | str | None = None
    block_bytes: int = 512 << 20

    def __post_init__(self) -> None:
        if self.activations not in ("cpu", "disk"):
            raise OptionError(
                f"Activations cannot be offloaded to '{self.activations}'.", remedy="Known: cpu, disk."
            )
        if self.block_bytes <= 0:
            raise OptionError(
                f"A block of {self.block_bytes} bytes holds nothing.", remedy="Pass a positive block_bytes."
            )


class Boundary:
    """Values that later blocks will read, by batch and node. On the way out of its context nothing is left.

    Args:
        options: Where they are kept.
    """

    def __init__(self, options: Offload) -> None:
        self._options = options
        self._device = None if options.device is None else torch.device(options.device)
        self._values: dict[tuple[int, fx.Node], Any] = {}
        self._folder: Path | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        if self._options.activations == "disk":
            try:
                if self._options.folder is not None:
                    Path(self._options.folder).mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="fxquant-", dir=self._options.folder))
            except OSError as error:
                raise _not_kept(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def put(self, batch: int, node: fx.Node, value: Any) -> None:
        """Keep a value."""
        self._values[batch, node] = _of_tensors(self._kept, value)

    def get(self, batch: int, node: fx.Node) -> Any:
        """Return a value, on the device where the blocks run."""
        return self.moved(pytree.tree_map(_read, self._values[batch, node]))

    def drop(self, batch: int, node: fx.Node) -> None:
        """Forget a value that nothing reads any more."""
        pytree.tree_map(_removed, self._values.pop((batch, node)))

    def moved(self, value: Any) -> Any:
        """Return a value with its tensors on the device where the blocks run."""
        device = self._device
        return value if device is None else _of_tensors(lambda tensor: tensor.to(device), value)

    def _kept(self, tensor: torch.Tensor) -> "torch.Tensor | _Stored":
        tensor = _compact(tensor.detach())
        if self._folder is None or tensor.nbytes < _SMALL or tensor.layout is not torch.strided:
            return tensor.cpu()
        path = self._folder / f"{next(self._numbers)}.pt"
        try:
            torch.save(tensor.cpu(), path)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter on a full disk
            raise _not_kept(error) from error
        return _Stored(path)


@dataclass(frozen=True)
class _Stored:
    """A tensor in a file."""

    path: Path


def _not_kept(error: Exception) -> OffloadError:
    return OffloadError(
        f"Activations cannot be kept on disk: {first_line(error)}.",
        remedy="Free space, or pass Offload(folder=) with a folder that has some.",
    )


def _read(value: Any) -> Any:
    return torch.load(value.path, mmap=True, weights_only=True) if isinstance(value, _Stored) else value


def _removed(value: Any) -> None:
    if isinstance(value, _Stored):
        value.path.unlink(missing_ok=True)


def _of_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    return pytree.tree_map(lambda v: function(v) if isinstance(v, torch.Tensor) else v, value)


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without the rest of the memory that it is a view of; its strides stay."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return tensor
    size = span(tensor.shape, tensor.stride())
    if tensor.untyped_storage().nbytes() <= size * tensor.element_size():
        return tensor
    flat = tensor.as_strided((size,), (1,), tensor.storage_offset()).clone()
    return flat.as_strided(tensor.shape, tensor.stride())
