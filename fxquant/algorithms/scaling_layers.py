"""scaling_layer: the layer, such as a normalization, whose parameters can take a division of its output."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from fxquant.algorithms.layers import Layer, holders_of
from fxquant.graph.annotations import layer_of
from fxquant.graph.edit import callers
from fxquant.graph.values import op_of, returns
from fxquant.nn import QuantizationMixin
from fxquant.ops import Returns


@dataclass(frozen=True, kw_only=True)
class ScalingLayer:
    """A layer that multiplies by its weight and adds its bias at the end, one number for each channel.

    Attributes:
        path: The user's layer.
        parameters: Weight, and bias if there is one, float [channels].
    """

    path: str
    parameters: list[nn.Parameter]


def scaling_layer(gm: fx.GraphModule, layers: Sequence[Layer]) -> ScalingLayer | None:
    """Return the layer that gives some layers their input and whose values nothing else reads, if there is.

    Args:
        gm: The prepared model's graph.
        layers: Layers that read one node, quantized or not.
    """
    first = layers[0]
    readers = {layer.node for layer in layers}
    source = first.input
    if not _is_read_by(gm, source, readers):
        return None
    if first.input_quantizer is not None:
        readers = {source}
        source = source.all_input_nodes[0]
        if not _is_read_by(gm, source, readers):
            return None
    op = op_of(gm, source)
    if source.op != "call_module" or op is None or op.scaled_axis != first.input_axis:
        return None
    module = gm.get_submodule(str(source.target))
    if len(callers(gm, lambda called: called is module)[id(module)]) > 1:
        return None
    if isinstance(module, QuantizationMixin) and any(q is not None for q in module.param_quantizers.values()):
        return None  # its parameters would need other ranges, or more bits
    shared = holders_of(gm)
    found = [held for name in ("weight", "bias") if (held := module._parameters.get(name)) is not None]
    channels = first.weight.shape[1 - first.channel_axis]
    is_fit = module._parameters.get("weight") is not None and all(
        held.shape == (channels,) and shared[id(held)] == 1 for held in found
    )
    return ScalingLayer(path=layer_of(source) or str(source.target), parameters=found) if is_fit else None


def _is_read_by(gm: fx.GraphModule, node: fx.Node, readers: set[fx.Node]) -> bool:
    """Whether nothing else reads a node's values; its size may be asked for."""
    return all(user in readers or _asks_only(gm, user) for user in node.users)


def _asks_only(gm: fx.GraphModule, user: fx.Node) -> bool:
    return user.op != "output" and returns(gm, user) is Returns.VALUE
