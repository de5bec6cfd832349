"""Names of inputs and nodes in the exported ONNX graph: those of the user's model and layers."""

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


def name_nodes(model: ir.Model) -> None:
    """Name nodes after the user's layer, or the tensor they give, and their op."""
    taken: set[str] = set()
    for node in model.graph:
        if node.op_type not in _QUANTIZERS:
            scopes = node.metadata_props.get(_SCOPES, "")
            layer = ast.literal_eval(scopes)[-2] if scopes.count(",") > 0 else ""
            place = layer or str(node.outputs[0].name)
            node.name = free_name(f"{place}/{node.op_type}", taken.__contains__)
            taken.add(node.name)


_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")  # named already, after the tensor
_SCOPES = "pkg.torch.onnx.name_scopes"  # torch.onnx notes there the path of the module that a node is of
