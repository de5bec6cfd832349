"""Answer the imports of a package that code we do not own names, with ours."""

import importlib.util
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType

from fxquant.errors import StandInError

log = logging.getLogger(__name__)


def stand_in_for_pytorch_quantization() -> "StandIn":
    """Answer `import pytorch_quantization`, and of any module below it, with fxquant's package from now on.

    For code that cannot be edited: a repository of others, or a model pickled whole, whose classes are found
    by the names of their modules. Code of one's own imports `fxquant.compat.pytorch_quantization`. A module
    is imported when it is first asked for, and is one object under both names, its classes, defaults and
    switches too. Calling it again changes nothing.

    Returns:
        What takes the names away again: call its `undo`, or use it in a `with` statement. That of a second
        call takes away nothing: the names belong to the first.

    Raises:
        StandInError: The original package is imported already: two sets of classes would answer to one name.

    >>> from fxquant.compat import stand_in_for_pytorch_quantization
    >>> with stand_in_for_pytorch_quantization():
    ...     from pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
    >>> TensorQuantizer.__module__
    'fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer'
    """
    return _stand_in("pytorch_quantization", "fxquant.compat.pytorch_quantization")


class StandIn:
    """A package's name that one of ours answers to, until undone.

    Args:
        finder: What answers the imports; None when an earlier call has put it there, which then undoes it.
    """

    def __init__(self, finder: "_AliasFinder | None") -> None:
        self._finder = finder

    def undo(self) -> None:
        """Take the names away again; what was imported by them stays. A second call does nothing."""
        if self._finder is None:
            return
        sys.meta_path.remove(self._finder)
        for name in [name for name in sys.modules if self._finder.answers(name)]:
            del sys.modules[name]
        self._finder = None

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


class _AliasFinder(MetaPathFinder):
    """Finds the modules of the package `name` in the package `ours`."""

    def __init__(self, name: str, ours: str) -> None:
        self.name = name
        self.ours = ours

    def answers(self, name: str) -> bool:
        return name == self.name or name.startswith(f"{self.name}.")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.answers(fullname):
            return None
        ours = self.ours + fullname.removeprefix(self.name)
        if importlib.util.find_spec(ours) is None:
            return None
        return ModuleSpec(fullname, _AliasLoader(fullname, importlib.import_module(ours)))


class _AliasLoader(Loader):
    """Hands out a module that is loaded already."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self._name = name
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has just set that of the other name
        for child, value in list(vars(module).items()):
            below = sys.modules.get(f"{module.__name__}.{child}")
            if below is not None and value is not below:
                # a function of its module's name: importing the module would put it in the function's place
                sys.modules[f"{self._name}.{child}"] = below


def _stand_in(name: str, ours: str) -> StandIn:
    if any(isinstance(finder, _AliasFinder) and finder.name == name for finder in sys.meta_path):
        return StandIn(None)
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None) or "memory"
        raise StandInError(
            f"The package '{name}' is imported already, from {origin}.",
            remedy=f"Call this before anything imports it; then '{ours}' answers to its name.",
        )
    finder = _AliasFinder(name, ours)
    sys.meta_path.insert(0, finder)  # before the original, should it be installed
    log.info("'%s' stands in for '%s'", ours, name)
    return StandIn(finder)
