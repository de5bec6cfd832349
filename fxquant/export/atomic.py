"""write_atomically: a file is written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fxquant.errors import ExportError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, and rename it into place.

    Args:
        path: Where the file is to be; what was there stays until the new one is complete.
        write: Writes, and may check, the file at the path it is given.

    Raises:
        ExportError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
    except OSError as error:
        raise ExportError(
            f"Cannot write to '{path.parent}': {error}.", remedy="Choose another folder."
        ) from error
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ExportError(
            f"Cannot write '{path}': {error}.", remedy="Free some space or choose another."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
