"""ChannelLayer: a layer with a weight, seen as matrices from input channels to output channels."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import fx, nn

from fxquant.graph.values import attribute, op_of
from fxquant.ops import Op


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelLayer:
    """A convolution, transposed convolution, linear layer, or the gain and bias of a layer norm.

    Attributes:
        name: Dotted path of the module.
        module: The module; its parameters are ``weight``, and ``bias`` if it has one.
        is_transposed: Whether the weight's first axis is that of input channels.
        is_gain: Whether the weight is a factor for each channel, of something that no other layer gives.
        groups: Into how many groups its channels fall.
        calls: Its calls, in graph order.
    """

    name: str
    module: nn.Module
    is_transposed: bool = False
    is_gain: bool = False
    groups: int = 1
    calls: tuple[fx.Node, ...]

    @property
    def weight(self) -> torch.Tensor:
        """The weight: [out, in / groups, *kernel], transposed [in, out / groups, *kernel], a gain [out]."""
        weight = self.module._parameters["weight"]
        assert weight is not None
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias: [out]; None without one."""
        return self.module._parameters.get("bias")

    @property
    def axis(self) -> int:
        """The axis of channels in what it reads and gives, counted from the end."""
        return -1 if self.is_gain else 1 - self.weight.dim()

    @property
    def num_inputs(self) -> int:
        """How many input channels it has; a gain has none."""
        if self.is_gain:
            return 0
        return self.weight.shape[0] if self.is_transposed else self.weight.shape[1] * self.groups

    @property
    def num_outputs(self) -> int:
        """How many output channels it has."""
        return self.weight.shape[1] * self.groups if self.is_transposed else self.weight.shape[0]

    def matrices(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight as [groups, out / groups, in / groups, taps]; a gain as [1, out, 1, 1]."""
        if self.is_gain:
            return weight.reshape(1, -1, 1, 1)
        grouped = weight.reshape(self.groups, -1, weight.shape[1], weight[0, 0].numel())
        return grouped.transpose(1, 2) if self.is_transposed else grouped

    def scaled(self, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """Return the weight, in float64, times a factor for each input and each output channel."""
        weight = self.weight.detach().double()
        if self.is_gain:
            return weight * outputs
        factor = outputs.reshape(self.groups, -1, 1) * inputs.reshape(self.groups, 1, -1)
        factor = factor.transpose(1, 2) if self.is_transposed else factor
        return weight * factor.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2))


def channel_layers_of(gm: fx.GraphModule) -> tuple[list[ChannelLayer], dict[nn.Module, str]]:
    """Return the layers that a graph calls, in the order of their first calls.

    Returns:
        The layers; and the modules that are none because their parameters must not change, with the reason.
    """
    calls: dict[nn.Module, list[fx.Node]] = {}
    for node in gm.graph.find_nodes(op="call_module", sort=True):
        calls.setdefault(gm.get_submodule(str(node.target)), []).append(node)
    holders = Counter(id(p) for module in gm.modules() for p in module._parameters.values() if p is not None)
    read = {id(attribute(gm, node)) for node in gm.graph.find_nodes(op="get_attr")}
    layers, declined = [], {}
    for module, nodes in calls.items():
        op = op_of(gm, nodes[0])
        weight = module._parameters.get("weight")
        if op is None or weight is None or not (is_weighted(op) or _is_gain(op, weight)):
            continue
        assert op.weight is not None
        held = [id(parameter) for parameter in module._parameters.values() if parameter is not None]
        if any(holders[key] > 1 or key in read for key in held):
            declined[module] = "something else reads its parameters too"
            continue
        layers.append(
            ChannelLayer(
                name=str(nodes[0].target),
                module=module,
                is_transposed=op.weight.channel_axis == 1,
                is_gain=not is_weighted(op),
                groups=int(getattr(module, "groups", 1)),
                calls=tuple(nodes),
            )
        )
    return layers, declined


def is_weighted(op: Op) -> bool:
    """Whether an op multiplies one activation with a weight that has channels: a convolution or a linear."""
    has_channels = op.weight is not None and op.weight.channel_axis is not None
    return has_channels and op.macs is not None and len(op.activations) == 1


def _is_gain(op: Op, weight: torch.Tensor) -> bool:
    """Whether an op ends with a factor and a bias for each element of the last axis: a layer norm."""
    return op.weight is not None and op.bias is not None and op.macs is None and weight.dim() == 1


def has_blocks(layer: ChannelLayer) -> bool:
    """Whether a layer's weight has ranges for blocks of input channels."""
    quantizer = dict(getattr(layer.module, "param_quantizers", {})).get("weight")
    return bool(getattr(quantizer, "block_size", None))
