"""FoldBatchNorm: fold an evaluation-mode batch norm into the weighted layer before it.

With g, b the affine parameters, m, v the running statistics and e the epsilon of the batch norm::

    weight' = weight * g / sqrt(v + e)          bias' = (bias - m) * g / sqrt(v + e) + b

The layer's output then has mean b and standard deviation |g| on the data that the norm saw, which is noted
on the layer (``graph.norm_note``) for the algorithms that ask for it.

Before::

    conv = Conv2d[conv](x)
    bn = BatchNorm2d[bn](conv)

After::

    conv = Conv2d[conv](x)                      # with folded weight and bias
"""

from dataclasses import dataclass

import torch
from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.edit import bypass, callers
from fxquant.graph.norm_note import note_norm
from fxquant.graph.values import op_of
from fxquant.ops import OutputRange, Role
from fxquant.passes.base import Changes, Pass
from fxquant.quantization.given import given_for, keep_for

_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold a batch norm into the convolution or linear layer that alone feeds it."""

    name = "fold-batch-norm"
    changes = Changes.BOTH
    after = ("remove-noop", "swap-layers")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        calls = callers(gm, lambda module: True)
        has_changed = False
        for node in list(gm.graph.nodes):
            norm = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
            if not isinstance(norm, _BatchNorm):
                continue
            producer = node.all_input_nodes[0] if node.all_input_nodes else None
            reason = _refusal(gm, norm, producer, calls)
            if reason or not isinstance(producer, fx.Node):
                self.declined(gm, node, report, reason)
                continue
            op = op_of(gm, producer)
            assert op is not None and op.weight is not None and op.weight.channel_axis is not None
            _fold(gm.get_submodule(str(producer.target)), norm, op.weight.channel_axis)
            self.applied(gm, node, report, f"folded into '{producer.target}'")
            bypass(gm, node, producer)
            has_changed = True
        if has_changed:
            gm.delete_all_unused_submodules()
        return has_changed


def _refusal(gm: fx.GraphModule, norm: _BatchNorm, producer: object, calls: dict[int, list[fx.Node]]) -> str:
    """Return why a batch norm cannot be folded; empty if it can."""
    if not isinstance(producer, fx.Node) or producer.op != "call_module":
        return "no layer with a weight feeds it"
    layer = gm.get_submodule(str(producer.target))
    op = op_of(gm, producer)
    if op is None or op.weight is None or op.bias is None or op.weight.channel_axis is None:
        return "no layer with a weight feeds it"
    if not norm.track_running_stats:
        return "it has no running statistics"
    if len(producer.users) > 1:
        return f"the output of '{producer.target}' is read elsewhere too"
    if len(calls[id(layer)]) > 1 or len(calls[id(norm)]) > 1:
        return f"'{producer.target}' or the batch norm is called more than once"
    if isinstance(layer, nn.Linear) and not isinstance(norm, nn.BatchNorm1d):
        return "its channel axis is not the layer's output axis"
    if isinstance(layer, nn.Linear) and not _is_matrix(gm, producer):
        return "the linear layer's input may have more than two dimensions, of which the second is normalized"
    constants = {str(constant.target) for constant in gm.graph.find_nodes(op="get_attr")}
    if constants & {f"{producer.target}.weight", f"{producer.target}.bias"}:
        return f"the weight of '{producer.target}' is read elsewhere too"
    return ""


def _is_matrix(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a tensor surely has two dimensions: it comes from a flatten(x, 1), maybe through layers."""
    while node.all_input_nodes:
        op = op_of(gm, node)
        if op is None or op.is_variadic or any(operand.role is Role.INDEX for operand in op.operands):
            return False
        if len(node.all_input_nodes) > 1:
            return False
        if op.is_flatten:
            module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
            is_default = isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
            given = (*node.args[1:], *node.kwargs.items())
            return is_default or (module is None and given in ((1,), (("start_dim", 1),)))
        if op.output is OutputRange.LIKE_INPUT:
            return False
        node = node.all_input_nodes[0]
    return False


def _fold(layer: nn.Module, norm: _BatchNorm, axis: int) -> None:
    weight, old_bias = layer._parameters["weight"], layer._parameters["bias"]
    mean, variance = norm.running_mean, norm.running_var
    assert weight is not None and mean is not None and variance is not None
    with torch.no_grad():
        factor = torch.rsqrt(variance.double() + norm.eps)
        factor = factor * norm.weight.double() if norm.affine else factor
        bias = -mean.double() if old_bias is None else old_bias.double() - mean.double()
        bias = bias * factor + norm.bias.double() if norm.affine else bias * factor
        factors = _along(factor, weight, axis, getattr(layer, "groups", 1))
        folded, given = weight.double() * factors, given_for(weight)
    layer.weight = nn.Parameter(folded.to(weight.dtype), requires_grad=weight.requires_grad)
    if given is not None:
        keep_for(layer.weight, given.times(factors))
    layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=weight.requires_grad)
    shift = norm.bias if norm.affine else torch.zeros_like(mean)
    note_norm(layer, shift, norm.weight.abs() if norm.affine else torch.ones_like(mean))


def _along(factor: torch.Tensor, weight: torch.Tensor, axis: int, groups: int) -> torch.Tensor:
    """Shape one factor per output channel so that it broadcasts against a weight.

    Along axis 0 there are all output channels; a transposed convolution's axis 1 holds those of one group,
    and axis 0 holds the inputs of all groups, one group after the other.
    """
    if axis == 0 or groups == 1:
        return factor.reshape([-1 if index == axis else 1 for index in range(weight.dim())])
    rows = factor.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * (weight.dim() - 2))
