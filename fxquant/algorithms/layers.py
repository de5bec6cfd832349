"""layers_of: the layers of a graph whose weight an algorithm may change."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxquant.graph import graphs_of
from fxquant.graph.annotations import layer_of
from fxquant.graph.values import attribute, op_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.ops.product_form import ProductForm
from fxquant.quantization.affine import QuantizeDequantize


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A layer with a quantized weight, called once, that is products of matrices.

    Attributes:
        node: Its call.
        path: Dotted path of the module.
        module: The module.
        weight: Its weight.
        quantizer: The weight's quantizer.
        form: How it is products of matrices.
        channel_axis: Axis of the weight that its output channels lie along.
        input_quantizer: The quantizer of its input; None where that is read in float.
    """

    node: fx.Node
    path: str
    module: Any
    weight: nn.Parameter
    quantizer: QuantizeDequantize
    form: ProductForm
    channel_axis: int
    input_quantizer: object

    @property
    def input(self) -> fx.Node:
        """The node of the tensor that it reads, quantized or not."""
        source = self.node.args[0]
        assert isinstance(source, fx.Node)
        return source

    @property
    def input_axis(self) -> int:
        """Axis of its input that channels lie along, counted from the end."""
        return 1 - self.weight.dim()

    @property
    def reads(self) -> QuantizeDequantize:
        """The quantizer of its input; only where that is quantized."""
        assert isinstance(self.input_quantizer, QuantizeDequantize)
        return self.input_quantizer

    def along_input(self, factors: torch.Tensor) -> torch.Tensor:
        """Return one number for each input channel so that they broadcast against the weight."""
        axis = 1 - self.channel_axis
        return factors.reshape([-1 if index == axis else 1 for index in range(self.weight.dim())])

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor that broadcasts to the weight as [groups, outputs of a group, length]."""
        return self.form.rows(self.module, tensor.expand(self.weight.shape))

    def of_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return such rows in the shape of the weight."""
        return self.form.of_rows(self.module, rows)

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the rows meet in an input: [groups, places, length]."""
        return self.form.patches(self.module, x)


def layers_of(gm: fx.GraphModule, nodes: Iterable[fx.Node]) -> tuple[list[Layer], dict[fx.Node, str]]:
    """Return the layers among some nodes, in order, and why other layers with quantizers are none.

    Args:
        gm: A prepared model's graph.
        nodes: Nodes of it.
    """
    calls: dict[int, int] = {}
    for node in gm.graph.find_nodes(op="call_module"):
        called = gm.get_submodule(str(node.target))
        calls[id(called)] = calls.get(id(called), 0) + 1
    holders = holders_of(gm)
    layers, declined = [], {}
    for node in nodes:
        module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
        op, quantizer = op_of(gm, node), _weight_quantizer(module)
        if op is None or op.weight is None or quantizer is None or module is None:
            continue
        weight = module._parameters.get("weight")
        if op.product is None or op.weight.channel_axis is None or weight is None:
            declined[node] = f"{op.name} is no product of a weight and its input"
        elif not isinstance(quantizer, QuantizeDequantize):
            declined[node] = "its weight is quantized to a float type"
        elif calls[id(module)] > 1:
            declined[node] = "it is called more than once"
        elif holders[id(weight)] > 1:
            declined[node] = "its weight is read elsewhere, too"
        else:
            layer = Layer(
                node=node,
                path=layer_of(node) or str(node.target),
                module=module,
                weight=weight,
                quantizer=quantizer,
                form=op.product,
                channel_axis=op.weight.channel_axis,
                input_quantizer=_input_quantizer(gm, node),
            )
            layers.append(layer)
    return layers, declined


def holders_of(gm: fx.GraphModule) -> Counter[int]:
    """Return how many of the modules that are called, and nodes, hold each parameter, by its identity."""
    called: dict[int, nn.Module] = {}
    read = []
    for graph in graphs_of(gm):
        read += [attribute(graph, node) for node in graph.graph.find_nodes(op="get_attr")]
        for node in graph.graph.find_nodes(op="call_module"):
            called |= {id(module): module for module in graph.get_submodule(str(node.target)).modules()}
    held = [parameter for module in called.values() for parameter in module._parameters.values()]
    return Counter(map(id, [*held, *read]))


def _input_quantizer(gm: fx.GraphModule, node: fx.Node) -> object:
    source = node.args[0]
    return quantizer_of(gm, source) if isinstance(source, fx.Node) else None


def _weight_quantizer(module: nn.Module | None) -> object:
    held = dict(module.param_quantizers.items()) if isinstance(module, QuantizationMixin) else {}
    return held.get("weight")
