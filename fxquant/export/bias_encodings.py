"""bias_encodings: the int32 encodings that biases in float are to have in an integer kernel.

``scale_bias[c] = scale_input * scale_weight[c]``, offset 0, with the largest scale of a channel's blocks, and
of LPBQ the scale of the channel: what AIMET lists from version 2.0.0 on, and what a converter would otherwise
choose by itself.
"""

from collections.abc import Iterator

import torch
from torch import fx

from fxquant.graph import graphs_of
from fxquant.graph.names import module_name
from fxquant.graph.values import activations_of, op_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.ops import OutputRange
from fxquant.quantization import AffineEncoding, QuantizerBase
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding

_INT32 = -(2**31), 2**31 - 1


def bias_encodings(gm: fx.GraphModule) -> dict[str, AffineEncoding]:
    """Return encodings by the name of the bias; none for a layer that reads several grids, or none."""
    found: dict[str, list[AffineEncoding]] = {}
    for graph in graphs_of(gm):
        for node in graph.graph.find_nodes(op="call_module"):
            for encoding in _encodings(graph, node):
                found.setdefault(f"{module_name(graph, node)}.bias", []).append(encoding)
    return {
        name: encodings[0]
        for name, encodings in found.items()
        if all(torch.equal(encoding.scale, encodings[0].scale) for encoding in encodings)
    }


def _encodings(gm: fx.GraphModule, node: fx.Node) -> Iterator[AffineEncoding]:
    """Yield the encoding of the bias of one call, where there is one."""
    module, op = gm.get_submodule(str(node.target)), op_of(gm, node)
    if not isinstance(module, QuantizationMixin) or op is None or op.weight is None:
        return
    bias, quantizer = module._parameters.get("bias"), dict(module.param_quantizers.items()).get("weight")
    weight = quantizer.get_encodings() if isinstance(quantizer, QuantizerBase) else None
    source = _source(gm, node.all_input_nodes[0])
    if bias is None or not isinstance(weight, AffineEncoding) or not isinstance(source, AffineEncoding):
        return
    scale = (source.scale * _per_channel(weight, op.weight.channel_axis)).detach()
    if source.scale.numel() == 1 and scale.numel() in (1, bias.numel()):
        yield AffineEncoding(scale, torch.zeros_like(scale), *_INT32, True)


def _per_channel(weight: AffineEncoding, channel_axis: int | None) -> torch.Tensor:
    scale = weight.per_channel_scale if isinstance(weight, GroupedBlockEncoding) else weight.scale
    if scale.numel() == 1 or channel_axis is None:
        return scale.amax()
    return scale.transpose(0, channel_axis).flatten(1).amax(1) if scale.dim() > 1 else scale


def _source(gm: fx.GraphModule, node: fx.Node) -> object:
    """Return the encoding that a tensor has, if need be through ops that only move values."""
    while (quantizer := quantizer_of(gm, node)) is None:
        op = op_of(gm, node)
        values = [] if op is None else activations_of(gm, node, op)
        if op is None or op.output is not OutputRange.LIKE_INPUT or len(values) != 1:
            return None
        node = values[0]
    return quantizer.get_encodings()
