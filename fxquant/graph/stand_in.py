"""stand_in: a module of the user's class that runs a graph, for a layer that stays whole to call."""

import copy
import functools
from typing import Any

from torch import fx, nn

GRAPH = "graph_module"  # the submodule that holds the graph


def stand_in(module: nn.Module, graph: fx.GraphModule) -> nn.Module:
    """Return a module that runs a graph and is to others what the given one is.

    It is of the module's class and has its plain attributes and methods; parameters and submodules are
    those of the graph alone.
    """
    bare = vars(nn.Module())
    made = _empty(type(module))
    vars(made).update(bare | {name: value for name, value in vars(module).items() if name not in bare})
    made.training = module.training
    made.add_module(GRAPH, graph)
    return made


class StandIn(nn.Module):
    """What all stand-ins have in common, before the user's class has its say.

    What would work on parts that a stand-in does not have is torch's own again.

    Attributes:
        graph_module: The graph that forward runs.
    """

    stands_for: type[nn.Module]
    train = nn.Module.train
    _apply = nn.Module._apply
    extra_repr = nn.Module.extra_repr
    __repr__ = nn.Module.__repr__

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the graph gives."""
        return getattr(self, GRAPH)(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, (self.stands_for,), vars(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        made = memo[id(self)] = _empty(self.stands_for)
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


@functools.cache
def _class_of(original: type[nn.Module]) -> type[nn.Module]:
    return type(original.__name__, (StandIn, original), {"stands_for": original})


def _empty(original: type[nn.Module]) -> nn.Module:
    made_class = _class_of(original)  # type: ignore[arg-type]  # a class can be hashed
    return made_class.__new__(made_class)
