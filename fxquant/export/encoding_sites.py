"""encoding_sites: the quantizers of a model, by the names that their tensors have in files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxquant.graph import graphs_of
from fxquant.graph.annotations import TENSOR
from fxquant.graph.names import module_name
from fxquant.graph.values import attribute
from fxquant.nn import QuantizationMixin
from fxquant.quantization import AffineEncoding, QuantizerBase

_BIAS = "bias"
_BIAS_BITS = 32


@dataclass(frozen=True, kw_only=True)
class EncodingSite:
    """A quantized tensor.

    Attributes:
        name: Its name in the ONNX file and in encodings files.
        quantizer: Its quantizer; tensors that lie on one grid share one.
        shape: Its shape where it is a constant; None for an activation.
    """

    name: str
    quantizer: QuantizerBase
    shape: tuple[int, ...] | None

    @property
    def is_parameter(self) -> bool:
        """Whether the tensor is a constant."""
        return self.shape is not None

    @property
    def is_derived(self) -> bool:
        """Whether the encoding follows from others: that of a bias in int32."""
        encoding = self.quantizer.get_encodings()
        is_wide = isinstance(encoding, AffineEncoding) and encoding.storage_bits == _BIAS_BITS
        return self.is_parameter and is_wide and self.name.rpartition(".")[2] == _BIAS


def encoding_sites(gm: fx.GraphModule) -> Iterator[EncodingSite]:
    """Yield the quantized tensors of a prepared or quantized model, each name once, in order of the graph."""
    seen: set[str] = set()
    for graph in graphs_of(gm):
        for node in graph.graph.nodes:
            for site in _sites_of(graph, node):
                if site.name not in seen:
                    seen.add(site.name)
                    yield site


def float_biases(gm: fx.GraphModule) -> set[str]:
    """Return the names of biases without a quantizer; ``fxquant.convert`` may derive an encoding for them."""
    return {
        f"{module_name(graph, node)}.{_BIAS}"
        for graph in graphs_of(gm)
        for node in graph.graph.find_nodes(op="call_module")
        if isinstance(module := graph.get_submodule(str(node.target)), QuantizationMixin)
        and module._parameters.get(_BIAS) is not None
    }


def _sites_of(gm: fx.GraphModule, node: fx.Node) -> Iterator[EncodingSite]:
    if node.op != "call_module":
        return
    module: Any = gm.get_submodule(str(node.target))
    if isinstance(module, QuantizerBase):
        source = node.all_input_nodes[0]
        constant = attribute(gm, source) if source.op == "get_attr" else None
        name = str(node.meta.get(TENSOR, node.name))
        yield EncodingSite(name=name, quantizer=module, shape=_shape(constant))
    elif isinstance(module, QuantizationMixin):
        for parameter, quantizer in module.param_quantizers.items():
            value = getattr(module, parameter)
            if isinstance(quantizer, QuantizerBase) and value is not None:
                name = f"{module_name(gm, node)}.{parameter}"
                yield EncodingSite(name=name, quantizer=quantizer, shape=_shape(value))


def _shape(constant: object) -> tuple[int, ...] | None:
    return None if constant is None else tuple(getattr(constant, "shape", ()))
