"""Guards: what a captured graph takes for granted, checked when it runs."""

from dataclasses import dataclass

from torch import fx

from fxquant.errors import GuardError
from fxquant.graph.annotations import layer_of, result_of
from fxquant.graph.recordable import recordable


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A value that the capture fixed.

    Attributes:
        what: The value, as an expression, such as "x.shape[1]".
        value: What it was during capture.
        layer: Dotted path of the user's layer that reads it.
        line: The line of the user's code, as "file:line: code"; empty where it is not known.
    """

    what: str
    value: object
    layer: str
    line: str

    def __str__(self) -> str:
        where = f", read by '{self.layer}'" if self.layer else ""
        return f"{self.what} == {self.value!r}{where}{f' at {self.line}' if self.line else ''}"


@recordable
def require(value: object, expected: object, what: str, layer: str) -> None:
    """Check a guard.

    Raises:
        GuardError: If the value is not the one the graph was captured with.
    """
    if value is not expected and value != expected:
        raise GuardError(
            f"The model was captured with {what} == {expected!r}, but here it is {value!r}.",
            layer=layer or None,
            remedy="Capture it again with example_inputs that have this value.",
        )


def fix_input_sizes(gm: fx.GraphModule, dims: range) -> list[Guard]:
    """Guard the sizes of every input tensor along some dimensions, 0 being the batch; return the guards."""
    guards: list[Guard] = []
    inputs = gm.graph.find_nodes(op="placeholder")
    following = inputs[-1].next
    present = {node.args[1:3] for node in gm.graph.find_nodes(op="call_function", target=require)}
    for node in inputs:
        result = result_of(node)
        for dim, size in list(enumerate(result.shape if result else ()))[dims.start : dims.stop]:
            if (size, f"{node.target}.size({dim})") in present:
                continue
            guard = Guard(what=f"{node.target}.size({dim})", value=size, layer="", line="")
            with gm.graph.inserting_before(following):
                number = gm.graph.call_method("size", (node, dim))
                gm.graph.call_function(require, (number, size, guard.what, ""))
            guards.append(guard)
    gm.recompile()
    return guards


def fixed_inputs(gm: fx.GraphModule) -> dict[str, object]:
    """Return the inputs that a guard holds to one value, such as flags, with that value."""
    guards = gm.graph.find_nodes(op="call_function", target=require)
    pairs = [(guard.args[0], guard.args[1]) for guard in guards]
    return {str(n.target): value for n, value in pairs if isinstance(n, fx.Node) and n.op == "placeholder"}


def remove_guards(graph: fx.Graph) -> None:
    """Remove all guards, and what only they read."""
    for node in graph.find_nodes(op="call_function", target=require):
        waiting = list(node.all_input_nodes)
        graph.erase_node(node)
        while waiting:
            source = waiting.pop()
            if not source.users and source.op != "placeholder" and not source.is_impure():
                waiting.extend(source.all_input_nodes)
                graph.erase_node(source)


def expression(node: fx.Node) -> str:
    """Return the number or flag that a node gives as a short expression on the tensors it comes from."""
    name = getattr(node.target, "__name__", str(node.target))
    if node.op == "placeholder":
        return str(node.target)
    if node.op == "call_function" and name == "getattr":
        return f"{_tensor(node.args[0])}.{node.args[1]}"
    if node.op == "call_function" and name == "getitem":
        return f"{_operand(node.args[0])}[{_operand(node.args[1])}]"
    if node.op == "call_function" and name in _SYMBOLS and len(node.args) == 2:
        return f"({_operand(node.args[0])} {_SYMBOLS[name]} {_operand(node.args[1])})"
    if node.op == "call_function":
        return f"{name}({', '.join(_operand(value) for value in node.args)})"
    if node.op == "call_method":
        return f"{_tensor(node.args[0])}.{name}({', '.join(_operand(value) for value in node.args[1:])})"
    return _tensor(node)


def _operand(value: object) -> str:
    return expression(value) if isinstance(value, fx.Node) else repr(value)


def _tensor(value: object) -> str:
    """Return a name for a tensor: an input's own, or what the user's layer gives."""
    if not isinstance(value, fx.Node):
        return repr(value)
    if value.op in ("placeholder", "get_attr", "call_module"):
        return str(value.target)
    name = getattr(value.target, "__name__", str(value.target))
    return f"{layer_of(value)}.{name}(...)".lstrip(".")


_SYMBOLS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}

fx.node.has_side_effect(require)
