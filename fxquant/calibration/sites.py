"""The places of a prepared model whose ranges calibration finds: activations and parameters."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import fx

from fxquant.calibration.tensor_statistics import Kind
from fxquant.graph import graphs_of
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.values import activations_of, is_constant, op_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.quantization.of_spec import Trainable, has_codes


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationSite:
    """A call of a quantizer.

    Attributes:
        node: The call.
        quantizer: The quantizer; tensors on one grid share one.
        name: Name of the tensor, as files have it.
        like: Name of the tensor whose values this one holds in another shape or order, on the same grid;
            None where it has values of its own.
        channel_axis: The axis that holds channels, by the ops around; None where none of them says.
    """

    node: fx.Node
    quantizer: Trainable
    name: str
    like: str | None
    channel_axis: int | None = None

    @property
    def layer(self) -> str:
        """The user's layer."""
        return layer_of(self.node)

    @property
    def is_constant(self) -> bool:
        """Whether the tensor is a parameter or buffer."""
        return is_constant(self.node.all_input_nodes[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightSite:
    """A quantized parameter of a layer.

    Attributes:
        layer: Dotted path of the layer.
        name: Dotted path of the parameter.
        parameter: Its values.
        quantizer: Its quantizer.
    """

    layer: str
    name: str
    parameter: torch.Tensor
    quantizer: Trainable


def activation_sites(gm: fx.GraphModule) -> list[ActivationSite]:
    """Return the calls of activation quantizers, in the order of the graphs."""
    sites: list[ActivationSite] = []
    for graph in graphs_of(gm):
        for node in graph.graph.nodes:
            quantizer = quantizer_of(graph, node)
            if isinstance(quantizer, Trainable) and has_codes(quantizer):
                like = _like(graph, node, quantizer)
                site = ActivationSite(
                    node=node,
                    quantizer=quantizer,
                    name=_name(node),
                    like=like,
                    channel_axis=_channel_axis(graph, node),
                )
                sites.append(site)
    return sites


def open_sites(gm: fx.GraphModule) -> list[ActivationSite]:
    """Return the calls of activation quantizers whose range calibration may change, in graph order."""
    return [site for site in activation_sites(gm) if site.quantizer.is_overwrite_allowed()]


def sites_to_show(gm: fx.GraphModule, kinds: Collection[Kind]) -> list[ActivationSite]:
    """Return the calls whose tensors are to be looked at: the open ones, or all where an analysis asks."""
    return activation_sites(gm) if Kind.CHANNELS in kinds else open_sites(gm)


def weight_sites(gm: fx.GraphModule) -> list[WeightSite]:
    """Return the quantized parameters of layers."""
    sites: list[WeightSite] = []
    for path, module in gm.named_modules():
        if isinstance(module, QuantizationMixin):
            for name, quantizer in module.param_quantizers.items():
                parameter = module._parameters.get(name)
                if not isinstance(quantizer, Trainable) or not has_codes(quantizer) or parameter is None:
                    continue
                site = WeightSite(
                    layer=path, name=f"{path}.{name}".lstrip("."), parameter=parameter, quantizer=quantizer
                )
                sites.append(site)
    return sites


def _name(node: fx.Node) -> str:
    return str(node.meta.get(TENSOR, node.name))


def _channel_axis(gm: fx.GraphModule, node: fx.Node) -> int | None:
    """Return where a tensor's channels are by an op that reads it, or by the one that gives it."""
    around = [*node.users, node.all_input_nodes[0]]
    ops = [op for neighbour in around if (op := op_of(gm, neighbour)) is not None]
    return next((op.channel_axis for op in ops if op.channel_axis is not None), None)


def _like(gm: fx.GraphModule, node: fx.Node, quantizer: Trainable) -> str | None:
    """Return the name of the tensor on the same grid whose values the quantized one holds, if it does."""
    source = node.all_input_nodes[0]
    op = op_of(gm, source)
    if op is None or not op.keeps_values:
        return None
    read = activations_of(gm, source, op)
    around = [] if len(read) != 1 else [read[0], *read[0].users]  # the op may read the tensor in float
    return next((_name(call) for call in around if quantizer_of(gm, call) is quantizer), None)
