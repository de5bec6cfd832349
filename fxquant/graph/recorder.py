"""Recorder: what a module computes, written down call by call while it runs."""

import builtins
import logging
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence

from fxquant.graph.annotations import result_of
from fxquant.graph.call_form import CallForm, Kind, call_form
from fxquant.graph.capture_notes import Resistance
from fxquant.graph.guards import Guard, expression, require
from fxquant.graph.recordable import length_of, packed_sequence, truth_of
from fxquant.graph.recorded_graph import RecordedGraph
from fxquant.graph.traced_numbers import fixed, plain, traced
from fxquant.graph.user_code import decides_a_check, user_line
from fxquant.ops.module_form import AnyFunction

log = logging.getLogger(__name__)


class Recorder(RecordedGraph):
    """Writes down what one module computes from its inputs; numbers carry their node.

    Args:
        root: The module.
        path: Its dotted path in the user's model.

    Attributes:
        is_open: Whether the recording goes on.
        guards: What the graph takes for granted.
        resistances: What the forward did that the graph cannot say.
        objects: Containers and objects that a node gives, with that node, by identity.
    """

    def __init__(self, root: nn.Module, path: str) -> None:
        super().__init__(root, path)
        self.is_open = True
        self.guards: list[Guard] = []
        self.resistances: list[Resistance] = []
        self.objects: dict[int, tuple[object, fx.Node]] = {}
        self._fixed: set[tuple[fx.Node, object]] = set()
        self._numbers: dict[Any, fx.Node] = {}
        self._reads_rank = False
        self._devices: dict[torch.device, fx.Node] = {}

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of torch's, and write it down where it computes something."""
        form = call_form(function)
        if function is torch._assert and not isinstance(args[0], torch.Tensor):
            form = CallForm(Kind.RUN)
        if form.kind is Kind.RECORD:
            return self._record(form, function, args, kwargs)
        if form.kind is Kind.READ or (form.kind is Kind.SET and not self._is_constant(args)):
            return self._read(function, args, kwargs)
        if form.kind is Kind.SIZE:
            return self._sizes(args[0], *args[1:], **kwargs)
        if form.kind is Kind.LENGTH:
            return fixed(self._sizes(args[0], 0))
        self._reads_rank |= form.kind is Kind.RANK
        result = function(*plain(args), **plain(kwargs))
        source = self.node_of(args[0]) if args else None
        if isinstance(result, torch.device) and source is not None and result not in self._devices:
            self._devices[result] = self.node("call_function", builtins.getattr, (source, "device"))
        return result

    def module_call(self, path: str, layer: str, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
        """Write down the call of a module that stays whole, and run it; what it gives is not bound yet.

        Returns:
            What the module gave, and its node.
        """
        arguments = tuple(self.argument(value) for value in args)
        options = {name: self.argument(value) for name, value in kwargs.items()}
        node = self.node("call_module", path, arguments, options, layer=layer)
        return run(*plain(args), **plain(kwargs)), node

    def custom_call(self, function: Callable[..., Any], name: str, args: Any) -> Any:
        """Write down a call that only a module can hold, such as that of a custom autograd function."""
        path = self.add_module(name, AnyFunction(function))
        node = self.node("call_module", path, tuple(self.argument(value) for value in args))
        return self.bind(function(*plain(args)), node)

    def _record(self, form: CallForm, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        operands = (*(self.argument(value) for value in args), *form.extra)
        if form.is_reflected:
            operands = operands[::-1]
        options = {name: self.argument(value) for name, value in kwargs.items()}
        target = form.target
        if form.op == "call_module":
            target = self.add_module(getattr(function, "__name__", "function"), AnyFunction(function))
        node = self.node(form.op, target, operands, options)
        return self.bind(function(*plain(args), **plain(kwargs)), node)

    def _is_constant(self, values: Any) -> bool:
        """Whether no value depends on the contents of an input."""
        nodes = [node for value in values if (node := self.node_of(value)) is not None]
        return not any(map(self.depends_on_contents, nodes))

    def _read(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a call that hands a tensor's contents to Python."""
        name = getattr(function, "__name__", "")
        result = function(*plain(args), **plain(kwargs))
        nodes = [node for value in args if (node := self.node_of(value)) is not None]
        if not nodes:
            return result
        line = user_line()
        is_scalar = isinstance(result, bool | int | float)
        if not self._is_constant(args) and not (is_scalar and decides_a_check()):
            self.resist(f"reads the contents of a tensor ({name})", str(line))
        elif not is_scalar:
            self.resist(f"takes a tensor to Python ({name})", str(line))
        elif isinstance(result, bool):
            self.fix(self.node("call_function", truth_of, (nodes[0],)), result)
        else:
            return traced(result, self.node("call_method", "item", (nodes[0],)), self)
        return result

    def _sizes(self, tensor: torch.Tensor, dim: int | None = None) -> Any:
        """Return all sizes of a tensor, or one; those of parameters and constants are plain numbers."""
        node = self.node_of(tensor)
        sizes = tensor.size()
        if node is None or node.op == "get_attr":
            return sizes if dim is None else sizes[dim]
        dims = range(len(sizes)) if dim is None else [plain(dim) % len(sizes)]
        given = [traced(sizes[index], self._size_node(node, index), self) for index in dims]
        return torch.Size(given) if dim is None else given[0]

    def _size_node(self, node: fx.Node, dim: int) -> fx.Node:
        key = "size", node, dim
        if key not in self._numbers:
            self._numbers[key] = self.node("call_method", "size", (node, dim))
        return self._numbers[key]

    def number_call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = function(*map(plain, args))
        if not isinstance(result, int | float) or isinstance(result, bool):
            return result
        return traced(result, self._number(function, args), self)

    def compare(self, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        result = bool(function(*map(plain, args)))
        operands = [self.argument(value) for value in args]
        if operands[0] is operands[1]:
            return result
        is_fixing = (function is operator.eq and result) or (function is operator.ne and not result)
        if is_fixing and not isinstance(operands[1], fx.Node):
            self.fix(operands[0], operands[1])
        else:
            self.fix(self._number(function, args), result)
        return result

    def _number(self, function: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
        operands = tuple(self.argument(value) for value in args)
        key = function, operands
        if key not in self._numbers:
            self._numbers[key] = self.node("call_function", function, operands)
        return self._numbers[key]

    def fix(self, node: fx.Node, value: object, line: str | None = None) -> None:
        if (node, value) in self._fixed or not self.is_open:
            return
        line = str(user_line()) if line is None else line
        if self.has_unknown_sizes(node):
            self.resist(f"depends on a size that depends on data ({expression(node)})", line)
            return
        self._fixed.add((node, value))
        guard = Guard(what=expression(node), value=value, layer=self.layers[-1], line=line)
        self.guards.append(guard)
        self.node("call_function", require, (node, value, guard.what, self.layers[-1]))

    def resist(self, reason: str, line: str) -> None:
        """Note that the innermost layer has to stay whole."""
        found = Resistance(layer=self.layers[-1], reason=reason, line=line)
        log.debug("resisted: %s", found)
        self.resistances.append(found)

    def argument(self, value: Any, part: Callable[[Any], Any] | None = None) -> Any:
        """Return what stands for a value in a node's arguments."""
        part = part or self.argument
        if isinstance(value, torch.Tensor):
            return self.node_of(value) or self.constant(value)
        node = getattr(value, "node", None)
        if isinstance(node, fx.Node) and node.graph is self.graph:
            return node
        if isinstance(value, np.generic):  # np.float64 is a float, but no literal
            return value.item()
        if isinstance(value, int | float):
            return plain(value)
        if id(value) in self.objects and self.objects[id(value)][0] is value:
            return self.objects[id(value)][1]
        if isinstance(value, torch.device) and value in self._devices:
            return self._devices[value]
        if isinstance(value, PackedSequence):
            node = self.node("call_function", packed_sequence, tuple(part(item) for item in value))
            self.objects[id(value)] = value, node
            return node
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(part(item) for item in value))
        if isinstance(value, tuple):
            return tuple(part(item) for item in value)
        if isinstance(value, list):
            return [part(item) for item in value]
        if isinstance(value, Mapping):
            return {plain(key): part(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(part(value.start), part(value.stop), part(value.step))
        if value is None or value is Ellipsis or isinstance(value, _LITERALS):
            return value
        return self.constant(value)

    def bind(self, value: Any, node: fx.Node) -> Any:
        """Note that a node gives a value; return it with traced numbers."""
        if isinstance(value, torch.Tensor):
            self.gives(node, value)
            return value
        if isinstance(value, torch.Size):
            return torch.Size([traced(item, self.part(node, i), self) for i, item in enumerate(value)])
        if isinstance(value, int | float):
            return traced(value, node, self)
        if type(value) in (tuple, list):
            self._fix_length(value, node)
            return type(value)(self.bind(item, self.part(node, i)) for i, item in enumerate(value))
        if isinstance(value, tuple):  # named: its numbers cannot be replaced
            self.objects[id(value)] = value, node
            for index, item in enumerate(value):
                self.bind(item, self.part(node, index))
        return value

    def _fix_length(self, value: Any, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op != "call_module" and name in _OF_ANY_LENGTH:
            self.fix(self.node("call_function", length_of, (node,)), len(value))

    def fix_ranks(self) -> None:
        """Guard the number of dimensions of the inputs, where the forward asked for one."""
        inputs = self.graph.find_nodes(op="placeholder") if self._reads_rank else []
        for node in inputs:
            result = result_of(node)
            if result is not None:
                with self.graph.inserting_before(self.graph.find_nodes(op="placeholder")[-1].next):
                    self.fix(self.node("call_method", "dim", (node,)), len(result.shape), line="")

    def part(self, node: fx.Node, key: Any) -> fx.Node:
        """Return the node of one element of what a node gives."""
        return self.node("call_function", operator.getitem, (node, plain(key)))


_LITERALS = (str, bytes, complex, torch.dtype, torch.device, torch.layout, torch.memory_format, range)
_OF_ANY_LENGTH = frozenset(("unbind", "split", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split"))
