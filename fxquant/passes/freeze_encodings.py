"""FreezeEncodings: fix every encoding, and store weights and constants as integers on their grid.

Before::

    x_quantizer = QuantizeDequantize[quantizers.x](x)  symmetric [-128, 127]
    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}      # weight: float32

After::

    x_quantizer = FrozenQuantizeDequantize[quantizers.x](x)  symmetric [-128, 127]
    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}      # weight: int8
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.errors import NotCalibratedError
from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, layer_of
from fxquant.graph.edit import add_buffer, add_module, callers, identifier, keep_float, set_module
from fxquant.graph.values import attribute, is_constant
from fxquant.nn import QuantizationMixin
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import EncodingBase, QuantizerBase
from fxquant.quantization.of_spec import frozen, has_codes, stored


@dataclass(frozen=True)
class FreezeEncodings(Pass):
    """Fix every encoding, and store weights and constants as integers."""

    name = "freeze-encodings"
    changes = Changes.BOTH
    after = ("swap-modules", "widen-weights", "derive-bias")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        quantizers = callers(gm, lambda module: has_codes(module))
        for calls in quantizers.values():
            _freeze_quantizer(gm, calls)
            self.applied(gm, calls[0], report, "encoding fixed")
        has_changed = bool(quantizers)
        modules = callers(gm, lambda module: isinstance(module, QuantizationMixin))
        for calls in modules.values():
            module = gm.get_submodule(str(calls[0].target))
            assert isinstance(module, QuantizationMixin)
            for name, quantizer in module.param_quantizers.items():
                if has_codes(quantizer) and module._parameters.get(name) is not None:
                    for path in {str(call.target) for call in calls}:
                        keep_float(gm, f"{path}.{name}")
                    assert isinstance(quantizer, QuantizerBase)
                    module.freeze_parameter(name, _encoding(quantizer, calls[0]))
                    self.applied(gm, calls[0], report, f"{name} stored as integers")
                    has_changed = True
        return has_changed


def _freeze_quantizer(gm: fx.GraphModule, calls: list[fx.Node]) -> None:
    """Replace a quantizer at every path it has; one that reads only constants gets them as integers."""
    quantizer = gm.get_submodule(str(calls[0].target))
    assert isinstance(quantizer, QuantizerBase)
    encoding = _encoding(quantizer, calls[0])
    paths = {str(call.target) for call in calls}
    constant = [call for call in calls if is_constant(call.all_input_nodes[0])]
    if constant:
        value = attribute(gm, constant[0].all_input_nodes[0])
        for call in constant:
            _store_codes(gm, call, encoding)
        codes = stored(encoding, getattr(value, "dtype", torch.float32))
        if len(constant) < len(calls):  # it serves activations on the same grid too
            path = add_module(gm, f"{constant[0].target}_stored", codes)
            for call in constant:
                call.target = path
        else:
            for path in paths:
                set_module(gm, path, codes)
            return
    fixed = frozen(encoding)
    for path in paths:
        set_module(gm, path, fixed)


def _store_codes(gm: fx.GraphModule, call: fx.Node, encoding: EncodingBase) -> None:
    """Let a quantizer's call read a buffer of codes; other readers keep the float constant."""
    node = call.all_input_nodes[0]
    value = attribute(gm, node)
    assert isinstance(value, torch.Tensor)
    name = add_buffer(gm, f"{identifier(str(node.target))}_codes", encoding.to_codes(value.detach()))
    with gm.graph.inserting_before(call):
        codes = gm.graph.get_attr(name)
    codes.meta[LAYER] = layer_of(node)
    call.replace_input_with(node, codes)


def _encoding(quantizer: QuantizerBase, node: fx.Node) -> EncodingBase:
    encoding = quantizer.get_encodings()
    if encoding is None or not quantizer.has_range():
        raise NotCalibratedError(
            "A quantizer has no range.",
            layer=layer_of(node),
            remedy="Calibrate the model before converting it.",
        )
    return encoding
