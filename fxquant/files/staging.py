"""staging_folder: a folder inside another, in which files are written before they take their places.

It lies on the same file system, so that a file moves out of it by a rename. A process that is killed leaves
its staging folder behind; the next one that writes there removes it. Whether the owner of a staging folder
still lives tells a lock on the folder (flock), which the system gives back when a process ends, however it
ends.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = ".fxquant-writing-"
"""How the names of staging folders begin."""


@contextlib.contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Make a staging folder in a folder, which is made too where there is none; remove it at the end.

    Raises:
        OSError: If it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    staging, lock = _claimed(folder)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _claimed(folder: Path) -> tuple[Path, int | None]:
    """Return a new staging folder and the lock on it; no lock where the file system has none.

    Another process may take a folder for abandoned between its making and its locking: then make another.
    """
    while True:
        staging = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        try:
            lock = _lock(staging)
        except FileNotFoundError:
            continue
        except OSError:
            return staging, None
        if lock is not None and staging.exists():
            return staging, lock


def _remove_abandoned(folder: Path) -> None:
    """Remove staging folders whose owners ended without doing so."""
    for staging in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _lock(staging)
            if lock is not None:
                shutil.rmtree(staging, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock on a folder; None if another process holds it.

    Raises:
        OSError: If there is no such folder, or the system has no such locks.
    """
    if sys.platform == "win32":
        raise OSError("Windows locks no folders.")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
