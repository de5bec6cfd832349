"""Storage: parameters that lie in files, mapped into memory and read when they are needed."""

from fxquant.storage.copying import shared_copies
from fxquant.storage.mapping import span
from fxquant.storage.memory import MappedMemory, release
from fxquant.storage.meta import parameters_on_meta
from fxquant.storage.releasing import releasing
from fxquant.storage.shards import load_shards

__all__ = [
    "MappedMemory",
    "load_shards",
    "parameters_on_meta",
    "release",
    "releasing",
    "shared_copies",
    "span",
]
