"""RecordedGraph: the graph that a recorder writes, and the model whose tensors it reads."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.utils.weak import WeakTensorKeyDictionary

from fxquant.graph.annotations import LAYER, RESULT, STOPPED, Result, result_of
from fxquant.graph.names import free_name
from fxquant.graph.reloading import Reloading


class RecordedGraph:
    """A graph that grows call by call.

    Tensors are followed by identity. A tensor that no node gave is a parameter, a buffer or another constant
    of the model.

    Args:
        root: The module whose forward is recorded; constants that it has no name for are added to it.
        path: Its dotted path in the user's model.

    Attributes:
        graph: The graph so far.
        layers: The user's layers whose forwards run, innermost last.
        is_random: Whether the forward draws random numbers.
        foreign: Tensors that no recorded call made, with the layers that read them.
    """

    def __init__(self, root: nn.Module, path: str) -> None:
        self.root, self.path = root, path
        self.graph = fx.Graph(tracer_cls=Reloading)
        self.layers = [path]
        self.is_random = False
        self.foreign: list[tuple[torch.Tensor, str]] = []
        self._nodes: Any = WeakTensorKeyDictionary()
        self._values: set[fx.Node] = set()  # nodes that depend on the contents of inputs, or on chance
        self._unsized: set[fx.Node] = set()  # nodes whose sizes depend on contents
        self._added: dict[str, Any] = {}  # tensors and objects that the root is to hold
        self._buffers = dict(root.named_buffers())
        self._paths = {id(tensor): name for name, tensor in self._own_tensors()}

    def node(
        self, op: str, target: Any, args: Any = (), kwargs: Any = None, layer: str | None = None
    ) -> fx.Node:
        """Add a node; it belongs to the innermost layer unless another is given."""
        node = self.graph.create_node(op, target, tuple(args), dict(kwargs or {}))
        node.meta[LAYER] = self.layers[-1] if layer is None else layer
        if not torch.is_grad_enabled():
            node.meta[STOPPED] = True
        sources = node.all_input_nodes
        name = target if isinstance(target, str) else getattr(target, "__name__", "")
        is_size = op != "call_module" and (name in _SIZES or (name == "getattr" and args[1] in _SIZES))
        self.is_random |= name in _RANDOM
        if (not is_size and any(s in self._values for s in sources)) or name in _RANDOM:
            self._values.add(node)
        if name in _SIZED_LIKE_FIRST:
            sources = [source for source in sources[:1] if source is node.args[0]]
        if (any(s in self._unsized for s in sources) and name != "setitem_") or self._makes_unsized(
            node, name
        ):
            self._unsized.add(node)
        return node

    def _makes_unsized(self, node: fx.Node, name: str) -> bool:
        """Whether a call gives a tensor whose sizes depend on contents."""
        if node.op == "call_module":
            return False
        if name in _UNSIZED:
            return any(source in self._values for source in node.all_input_nodes)
        if name == "where":
            return len(node.args) == 1
        if name == "repeat_interleave":
            counts = node.kwargs.get("repeats", node.args[-1])
            return isinstance(counts, fx.Node) and result_of(counts) is not None
        if name != "getitem" or len(node.args) < 2:
            return False
        index = node.args[1]
        picked = index if isinstance(index, tuple) else (index,)
        results = [result_of(item) for item in picked if isinstance(item, fx.Node)]
        return any(r is not None and r.dtype in (torch.bool, torch.uint8) for r in results)

    def node_of(self, value: object) -> fx.Node | None:
        """Return the node that gave a tensor; None if none did."""
        found: fx.Node | None = self._nodes.get(value) if isinstance(value, torch.Tensor) else None
        return found

    def gives(self, node: fx.Node, tensor: torch.Tensor) -> None:
        """Note that a node gives a tensor."""
        self._nodes[tensor] = node
        if node.op == "placeholder":
            self._values.add(node)
        node.meta[RESULT] = Result(shape=tuple(tensor.shape), dtype=tensor.dtype)

    def depends_on_contents(self, node: fx.Node) -> bool:
        """Whether what a node gives depends on the contents of an input, or on chance."""
        return node in self._values

    def has_unknown_sizes(self, node: fx.Node) -> bool:
        """Whether a node's sizes depend on the contents of an input."""
        return node in self._unsized

    def constant(self, value: Any) -> fx.Node:
        """Return a node that reads a tensor or object of the model; one without a path is added to it."""
        is_tensor = isinstance(value, torch.Tensor)
        path = self._paths.get(id(value))
        if path is None:
            if is_tensor:
                self.foreign.append((value, self.layers[-1]))
            path = self._add_attribute(value)
        node = self.node("get_attr", path)
        if is_tensor:
            self.gives(node, value)
        return node

    def attach(self) -> None:
        """Let the root hold what the graph reads and nobody had a name for."""
        for name, value in self._added.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                self.root.register_buffer(name, value.detach())
            else:
                setattr(self.root, name, value)

    def add_module(self, name: str, module: nn.Module) -> str:
        """Add a module to the root; return the name it got."""
        free = free_name(name, lambda name: hasattr(self.root, name))
        self.root.add_module(free, module)
        return free

    def write_back_buffers(self) -> None:
        """Copy into a buffer what the forward put in its place."""
        for name, before in self._buffers.items():
            owner, _, attribute = name.rpartition(".")
            module = self.root.get_submodule(owner)
            after = module._buffers.get(attribute)
            if after is before or after is None:
                continue
            module._buffers[attribute] = before
            source = self.node_of(after)
            if source is not None and source.op != "get_attr" and after.shape == before.shape:
                self.node("call_method", "copy_", (self.node("get_attr", name), source))

    def _own_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every tensor that is reachable as an attribute of a module, with its path."""
        seen: set[int] = set()
        for prefix, module in self.root.named_modules(remove_duplicate=False):
            for name, value in (*module._parameters.items(), *module._buffers.items(), *vars(module).items()):
                if isinstance(value, torch.Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}".lstrip("."), value

    def _add_attribute(self, value: Any) -> str:
        name = "_constant" if isinstance(value, torch.Tensor) else "_object"
        free = free_name(name, lambda name: name in self._added or hasattr(self.root, name))
        self._added[free] = value
        self._paths[id(value)] = free
        return free


_SIZES = frozenset(("size", "shape", "dim", "numel", "nelement", "itemsize", "nbytes", "length_of"))
_UNSIZED = frozenset(
    ("nonzero", "masked_select", "unique", "unique_consecutive", "argwhere", "bincount", "nms")
)
_SIZED_LIKE_FIRST = frozenset(
    f"{name}{ending}"
    for name in (
        *("index_add", "index_put", "index_copy", "index_fill", "scatter", "scatter_add", "scatter_reduce"),
        "masked_scatter",
    )
    for ending in ("", "_")
)
_RANDOM = frozenset(
    (
        "rand",
        "randn",
        "randint",
        "randperm",
        "rand_like",
        "randn_like",
        "randint_like",
        "bernoulli",
        "bernoulli_",
        "multinomial",
        "normal",
        "normal_",
        "uniform_",
        "exponential_",
        "random_",
        "poisson",
    )
)
