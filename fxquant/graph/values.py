"""What a node means: its op, the kind of value it gives, its operands."""

import builtins
from typing import Any

import torch
from torch import fx

from fxquant.ops import ModuleForm, Op, Operand, Returns, Role, op_of_function, op_of_method, op_of_module
from fxquant.ops.module_form import AnyFunction
from fxquant.quantization import QuantizerBase

_CALLS = ("call_module", "call_function", "call_method")
_PLAIN_MODULES = ("_operator", "builtins", "math")  # their functions take numbers as well as tensors


def op_of(gm: fx.GraphModule, node: fx.Node) -> Op | None:
    """Return the op table's row for a node; None for inputs, outputs, constants, quantizers, unknown ops."""
    if node.op == "call_module":
        return op_of_module(gm.get_submodule(str(node.target)))
    if node.target is builtins.getattr:
        return op_of_method(str(node.args[1]))
    if node.op == "call_function":
        return op_of_function(node.target)  # type: ignore[arg-type]  # fx: a callable for call_function
    if node.op == "call_method":
        return op_of_method(str(node.target))
    return None


def is_call(node: fx.Node) -> bool:
    """Whether a node computes something."""
    return node.op in _CALLS


def quantizer_of(gm: fx.GraphModule, node: fx.Node) -> QuantizerBase | None:
    """Return the quantizer that a node calls; None if it calls none."""
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, QuantizerBase) else None


def is_quantizer(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node calls a quantizer."""
    return quantizer_of(gm, node) is not None


def is_constant(node: fx.Node) -> bool:
    """Whether a node reads a parameter or buffer."""
    return node.op == "get_attr"


def returns(gm: fx.GraphModule, node: fx.Node) -> Returns:
    """Return the kind of value a node gives, as far as the graph alone tells.

    A call gives a tensor unless the op table says otherwise, or it is arithmetic on numbers and shapes only.
    """
    waiting, seen = [node], {node}
    while waiting:
        current = waiting.pop()
        kind = _kind(gm, current)
        if kind is Returns.TUPLE and current is node:
            return kind
        if kind in (Returns.TENSOR, Returns.TUPLE):
            return Returns.TENSOR
        new = [] if kind is Returns.VALUE else [n for n in current.all_input_nodes if n not in seen]
        waiting += new
        seen.update(new)
    return Returns.VALUE


def _kind(gm: fx.GraphModule, node: fx.Node) -> Returns | None:
    """Return the kind of value of one node; None where it depends on what the node reads."""
    if node.op == "placeholder":
        return Returns.VALUE if node.args and isinstance(node.args[0], int | float | str) else Returns.TENSOR
    if node.op == "get_attr":
        return Returns.TENSOR if isinstance(attribute(gm, node), torch.Tensor) else Returns.VALUE
    op = op_of(gm, node)
    if op is not None and op.returns is not Returns.TENSOR:
        return op.returns
    is_plain = node.op == "call_method" or getattr(node.target, "__module__", "") in _PLAIN_MODULES
    if node.op == "call_module":
        is_plain = isinstance(gm.get_submodule(str(node.target)), ModuleForm | AnyFunction)
    return None if is_plain and node.all_input_nodes else Returns.TENSOR


def attribute(gm: fx.GraphModule, node: fx.Node) -> object:
    """Return the parameter or buffer that a get_attr node reads."""
    path, _, name = str(node.target).rpartition(".")
    return getattr(gm.get_submodule(path), name)


def transposed_constant(gm: fx.GraphModule, node: object) -> fx.Node | None:
    """Return the constant of which a node swaps the last two dimensions; None for any other node."""
    if not isinstance(node, fx.Node) or len(node.all_input_nodes) != 1 or node.op == "call_module":
        return None
    source, op = node.all_input_nodes[0], op_of(gm, node)
    held = attribute(gm, source) if is_constant(source) else None
    if not isinstance(held, torch.Tensor) or held.dim() < 2 or op is None or not op.moves_dims:
        return None
    small: Any = torch.arange(6 * 2 ** (held.dim() - 2)).reshape(*[2] * (held.dim() - 2), 2, 3)
    more = node.args[1:]
    move: Any = getattr(torch.Tensor, node.target) if isinstance(node.target, str) else node.target
    moved = move(small, *more, **node.kwargs)
    return source if isinstance(moved, torch.Tensor) and torch.equal(moved, small.mT) else None


def operand_of(node: fx.Node, operand: Operand) -> object:
    """Return the argument a node passes for an operand; None where it passes none.

    A module call passes activations only: weights and biases are its attributes.
    """
    if node.op == "call_module" and operand.role in (Role.WEIGHT, Role.BIAS):
        return None
    if operand.index < len(node.args):
        return node.args[operand.index]
    return next((node.kwargs[name] for name in (operand.name, *operand.aliases) if name in node.kwargs), None)


def arguments_by_name(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a call's arguments by name, given the names of a function's parameters in order."""
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def activations_of(gm: fx.GraphModule, node: fx.Node, op: Op) -> list[fx.Node]:
    """Return the nodes of the tensors a call reads as activations, each once, in order of position."""
    if op.is_variadic:
        joined = node.args if node.op == "call_module" else node.args[0] if node.args else None
        given = node.kwargs.get("tensors", ()) if joined is None else joined
        candidates = list(given) if isinstance(given, list | tuple) else [given]
    else:
        candidates = [operand_of(node, operand) for operand in op.activations]
    found = [value for value in candidates if isinstance(value, fx.Node)]
    return [value for value in dict.fromkeys(found) if returns(gm, value) is not Returns.VALUE]
