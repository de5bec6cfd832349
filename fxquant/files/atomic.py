"""atomic_files: files that belong together are written all or not at all.

They are written into a staging folder under their final names, flushed to disk, and only then moved, one
rename each. A failure at any point puts back what was there. A process that is killed leaves the old files or
the new ones, never half a file; only in the moment between the first rename and the last, some old and some
new. A file that names another, as an ONNX file names that of its weights, is safe from that moment too where
the other is named by its contents: an old file then never names a new one.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from fxquant.errors import ExportError
from fxquant.files.staging import staging_folder

_DIGITS = 16  # of a SHA-256 in a name
_CHUNK = 2**22
_REPLACED = "replaced"  # in the staging folder: the files that were there


class AtomicFiles:
    """Files on their way into a folder; what ``atomic_files`` gives.

    Args:
        folder: Where they are to be.
        staging: Where they are written.
    """

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder, self._staging = folder, staging
        self._names: list[str] = []
        self._named_by_contents: set[str] = set()
        self._retired: list[re.Pattern[str]] = []

    def path(self, name: str) -> Path:
        """Return where to write a file now; all of them stand beside each other, under their final names.

        They take their places in the order in which they are asked for here. Ask first for a file that
        another one names.
        """
        if name not in self._names:
            self._names.append(name)
        return self._staging / name

    def name_by_contents(self, name: str) -> str:
        """Put 16 digits of its SHA-256 into the name of a file that is written, and return the new name.

        ``model.onnx.data`` becomes ``model.onnx.0123456789abcdef.data``. The files of such names that an
        earlier export left are removed once the new ones are in place.
        """
        self.retire(name)
        path = Path(name)
        digest = hashlib.sha256()
        with (self._staging / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        named = f"{path.stem}.{digest.hexdigest()[:_DIGITS]}{path.suffix}"
        (self._staging / name).replace(self._staging / named)
        self._names[self._names.index(name)] = named
        self._named_by_contents.add(named)
        return named

    def retire(self, name: str) -> None:
        """Remove, once the new files are in place, those named after ``name`` and their contents before."""
        path = Path(name)
        pattern = f"{re.escape(path.stem)}\\.[0-9a-f]{{{_DIGITS}}}{re.escape(path.suffix)}"
        self._retired.append(re.compile(pattern))

    def move_into_place(self) -> None:
        """Move all files to where they are to be, or none.

        Raises:
            ExportError: If a file that was asked for was not written.
            OSError: If a file cannot be moved.
        """
        for name in self._names:
            if not (self._staging / name).is_file():
                raise ExportError(f"'{self._folder / name}' was not written.")
            _flush(self._staging / name, os.O_RDWR)
        (self._staging / _REPLACED).mkdir()
        for name in self._names:
            self._keep(name)
        begun: list[str] = []
        try:
            for name in self._names:
                begun.append(name)
                (self._staging / name).replace(self._folder / name)
                if name in self._named_by_contents:
                    _flush_folder(self._folder)  # on disk before what names it
            _flush_folder(self._folder)
        except BaseException:
            for name in reversed(begun):
                self._put_back(name)
            raise
        for path in self._folder.iterdir():
            if path.name not in self._names and any(p.fullmatch(path.name) for p in self._retired):
                with contextlib.suppress(OSError):  # it stays as long as somebody reads it, on some systems
                    path.unlink()

    def _keep(self, name: str) -> None:
        """Keep the file that is to be replaced, if there is one."""
        old, kept = self._folder / name, self._staging / _REPLACED / name
        if old.is_file():
            try:
                os.link(old, kept)
            except OSError:  # a file system without hard links
                shutil.copy2(old, kept)

    def _put_back(self, name: str) -> None:
        """Undo the move of a file, as far as it got."""
        kept = self._staging / _REPLACED / name
        with contextlib.suppress(OSError):
            if kept.exists():
                kept.replace(self._folder / name)
            elif not (self._staging / name).exists():
                (self._folder / name).unlink()


@contextlib.contextmanager
def atomic_files(folder: Path) -> Iterator[AtomicFiles]:
    """Write files into a folder, all or none: they take their places when the context ends without an error.

    Example::

        with atomic_files(folder) as files:
            write(files.path("model.onnx"))
            write(files.path("model.encodings"))

    Raises:
        ExportError: If the folder cannot be written into, or the disk is full.
    """
    try:
        with staging_folder(folder) as staging:
            files = AtomicFiles(folder, staging)
            yield files
            files.move_into_place()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"Cannot write into '{folder}': {reason}.", remedy="Free some space, or choose another folder."
        ) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write one file whole or not at all.

    Args:
        path: Where the file is to be; what was there stays until the new one is complete.
        write: Writes, and may check, the file at the path it is given.

    Raises:
        ExportError: If it cannot be written.
    """
    with atomic_files(path.parent) as files:
        write(files.path(path.name))


def _flush(path: Path, flags: int) -> None:
    """Let the disk hold what was written."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Let the disk hold a folder's names, where the system can do that."""
    with contextlib.suppress(OSError):
        _flush(folder, os.O_RDONLY)
