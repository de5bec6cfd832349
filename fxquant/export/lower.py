"""lower: the graph that export traces, a quantized model whose quantizers are the two export operators."""

import copy

import torch
from torch import fx, nn

from fxquant.errors import ExportError
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.edit import set_module
from fxquant.graph.values import is_quantizer
from fxquant.nn import QuantizationMixin
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import FrozenDequantize, FrozenQuantizeDequantize

_FULL_GRIDS = {
    (0, 255): torch.uint8,
    (-128, 127): torch.int8,
    (0, 65535): torch.uint16,
    (-32768, 32767): torch.int16,
}


def lower(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a graph to export; it shares tensors with the quantized model, which is not modified.

    Raises:
        ExportError: If an activation's grid is not that of an ONNX integer type.
    """
    lowered = fx.GraphModule(gm, copy.deepcopy(gm.graph))
    for index, node in enumerate(list(lowered.graph.nodes)):
        if node.op != "call_module":
            continue
        module = gm.get_submodule(str(node.target))
        if is_quantizer(gm, node):
            tensor = str(node.meta.get(TENSOR, node.name))
            path = f"lowered_{index}"
            lowered.add_submodule(path, _lower_quantizer(module, tensor, layer_of(node)))
            node.target = path
        elif isinstance(module, QuantizationMixin):
            set_module(lowered, str(node.target), _lower_module(module, str(node.target)))
    lowered.recompile()
    return lowered


def needs_opset_21(gm: fx.GraphModule) -> bool:
    """Whether a model holds 16-bit encodings, which ONNX knows from opset 21 on."""
    encodings = [
        module.get_encodings() for module in gm.modules() if isinstance(module, FrozenQuantizeDequantize)
    ]
    return any(encoding.bitwidth > 8 for encoding in encodings)


class _Lowered(nn.Module):
    """A quantizer as one call of an export operator."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, encoding: AffineEncoding, dtype: torch.dtype, tensor: str) -> None:
        super().__init__()
        axis = encoding.channel_axis
        shape = (-1,) if axis is not None else ()
        self.register_buffer("scale", encoding.scale.detach().float().reshape(shape))
        self.register_buffer("zero_point", encoding.zero_point.to(dtype).reshape(shape))
        self.axis = 0 if axis is None else axis
        self.tensor = tensor


class _LoweredQuantizeDequantize(_Lowered):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.ops.fxquant.quantize_dequantize(
            input, self.scale, self.zero_point, self.axis, self.tensor
        )
        return output


class _LoweredDequantize(_Lowered):
    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.ops.fxquant.dequantize(
            codes, self.scale, self.zero_point, self.axis, self.tensor
        )
        return output


def _lower_quantizer(quantizer: nn.Module, tensor: str, layer: str) -> nn.Module:
    if isinstance(quantizer, FrozenDequantize):
        encoding = quantizer.get_encodings()
        return _LoweredDequantize(encoding, encoding.dtype, tensor)
    assert isinstance(quantizer, FrozenQuantizeDequantize)
    encoding = quantizer.get_encodings()
    dtype = _FULL_GRIDS.get((encoding.qmin, encoding.qmax))
    if dtype is None:
        raise ExportError(
            f"Tensor '{tensor}' lies on the grid [{encoding.qmin}, {encoding.qmax}], no ONNX integer type.",
            layer=layer or None,
            remedy="Quantize activations to 8 or 16 bits.",
        )
    return _LoweredQuantizeDequantize(encoding, dtype, tensor)


def _lower_module(module: QuantizationMixin, path: str) -> QuantizationMixin:
    """Return a shallow copy of a quantized module whose parameter quantizers are export operators."""
    lowered = copy.copy(module)
    lowered._modules = dict(module._modules)
    quantizers = nn.ModuleDict(dict(module.param_quantizers.items()))
    for name, quantizer in module.param_quantizers.items():
        if quantizer is not None:
            quantizers[name] = _lower_quantizer(quantizer, f"{path}.{name}", path)
    lowered.param_quantizers = quantizers
    return lowered
