"""Graph text: one line per node, for people, golden tests and --print-after."""

from torch import fx

from fxquant.arithmetic import KernelCall
from fxquant.graph.annotations import layer_of
from fxquant.nn import QuantizationMixin
from fxquant.quantization import QuantizerBase


def graph_text(gm: fx.GraphModule) -> str:
    """Return the graph as text, one line per node: ``name = what(operands)  [notes]``."""
    return "\n".join(_line(gm, node) for node in gm.graph.nodes) + "\n"


def _line(gm: fx.GraphModule, node: fx.Node) -> str:
    arguments = ", ".join(
        [_text(value) for value in node.args] + [f"{k}={_text(v)}" for k, v in node.kwargs.items()]
    )
    if node.op == "placeholder":
        return f"{node.name} = input"
    if node.op == "output":
        return f"return {arguments}"
    if node.op == "get_attr":
        return f"{node.name} = constant {node.target}"
    if node.op == "call_module":
        return f"{node.name} = {_module(gm, str(node.target))}({arguments}){_notes(gm, node)}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    dot = "." if node.op == "call_method" else ""
    layer = f"  @{layer_of(node)}" if layer_of(node) else ""
    return f"{node.name} = {dot}{name}({arguments}){layer}{_assigned(node)}"


def _module(gm: fx.GraphModule, path: str) -> str:
    module = gm.get_submodule(path)
    called = module.called if isinstance(module, KernelCall) else module
    name = called if isinstance(called, str) else getattr(called, "__name__", type(called).__name__)
    return f"{name}[{path}]"


def _notes(gm: fx.GraphModule, node: fx.Node) -> str:
    module = gm.get_submodule(str(node.target))
    if isinstance(module, KernelCall):
        return f"{_held(node, module.called)}  as a kernel"
    return _held(node, module)


def _held(node: fx.Node, module: object) -> str:
    if isinstance(module, QuantizerBase):
        return f"  {_grid(module)}"
    if isinstance(module, QuantizationMixin):
        quantizers = {name: q for name, q in module.param_quantizers.items() if isinstance(q, QuantizerBase)}
        held = [f"{name}: {_grid(q)}" for name, q in quantizers.items()]
        return f"  {{{', '.join(held)}}}" if held else _assigned(node)
    return _assigned(node)


def _grid(quantizer: object) -> str:
    if (float_type := getattr(quantizer, "float_type", None)) is not None:
        return str(float_type)
    qmin, qmax = getattr(quantizer, "qmin", "?"), getattr(quantizer, "qmax", "?")
    symmetry = "symmetric" if getattr(quantizer, "symmetric", False) else "asymmetric"
    return f"{symmetry} [{qmin}, {qmax}]"


def _assigned(node: fx.Node) -> str:
    assignment = node.meta.get("assignment")
    return f"  {{{assignment}}}" if assignment is not None else ""


def _text(value: object) -> str:
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return repr(value)
