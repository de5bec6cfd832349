"""Names in the exported ONNX graph: those of the user's model and layers, each of one value or node only."""

import ast

import onnx_ir as ir

from fxquant.graph.names import free_name


def name_inputs(model: ir.Model, names: list[str]) -> None:
    """Give the graph's inputs the names that the model's forward has for them, where each is one tensor."""
    inputs = list(model.graph.inputs)
    if len(inputs) != len(names):
        return
    for node in model.graph:
        for value in node.outputs:
            value.name = f"{value.name}_output" if value.name in names else value.name
    for value, name in zip(inputs, names, strict=True):
        value.name = name


def make_names_unique(model: ir.Model) -> None:
    """Give each value a name of its own: inputs and outputs of the graph keep theirs, then constants."""
    graph = model.graph
    kept = dict.fromkeys([*graph.inputs, *graph.outputs])
    taken = {str(value.name) for value in kept}
    computed = [value for node in graph for value in node.outputs if value.name]
    for value in dict.fromkeys([*graph.initializers.values(), *computed]):
        if value not in kept:
            value.name = free_name(str(value.name), taken.__contains__)
            taken.add(value.name)


def name_nodes(model: ir.Model) -> None:
    """Name quantizers after the tensor they give, and others after the user's layer, or it, and their op."""
    taken: set[str] = set()
    for node in model.graph:
        if node.op_type in _QUANTIZERS:
            node.name = str(node.outputs[0].name)
        else:
            scopes = node.metadata_props.get(_SCOPES, "")
            layer = ast.literal_eval(scopes)[-2] if scopes.count(",") > 0 else ""
            place = layer or str(node.outputs[0].name)
            node.name = free_name(f"{place}/{node.op_type}", taken.__contains__)
            taken.add(node.name)


_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx notes there the path of the module that a node is of
