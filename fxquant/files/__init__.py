"""Files are written whole or not at all."""

from fxquant.files.atomic import AtomicFiles, atomic_files, write_atomically

__all__ = ["AtomicFiles", "atomic_files", "write_atomically"]
