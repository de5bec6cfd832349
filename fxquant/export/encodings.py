"""encodings_json: the encodings of a quantized model in AIMET's format 1.0.0."""

from typing import Any

from torch import fx

from fxquant.graph.annotations import TENSOR
from fxquant.graph.values import is_quantizer
from fxquant.nn import QuantizationMixin
from fxquant.quantization import AffineEncoding, QuantizerBase

VERSION = "1.0.0"


def encodings_json(gm: fx.GraphModule, producer: str) -> dict[str, Any]:
    """Return activation and parameter encodings as the JSON document of format 1.0.0.

    Tensors have the names they have in the ONNX file. An offset counts from the lowest code of an unsigned
    grid: minus the zero point, and 2^(b-1) less for a signed one.
    """
    activations: dict[str, dict[str, Any]] = {}
    parameters: dict[str, dict[str, Any]] = {}
    for node in gm.graph.nodes:
        if node.op != "call_module":
            continue
        module = gm.get_submodule(str(node.target))
        if is_quantizer(gm, node) and isinstance(module, QuantizerBase):
            encoding = module.get_encodings()
            assert encoding is not None
            name = str(node.meta.get(TENSOR, node.name))
            home = parameters if node.all_input_nodes[0].op == "get_attr" else activations
            home[name] = _entry(name, encoding)
        elif isinstance(module, QuantizationMixin):
            for parameter, quantizer in module.param_quantizers.items():
                if isinstance(quantizer, QuantizerBase):
                    encoding = quantizer.get_encodings()
                    assert encoding is not None
                    name = f"{node.target}.{parameter}"
                    parameters[name] = _entry(name, encoding)
    return {
        "version": VERSION,
        "producer": producer,
        "activation_encodings": list(activations.values()),
        "param_encodings": list(parameters.values()),
        "excluded_layers": [],
    }


def _entry(name: str, encoding: AffineEncoding) -> dict[str, Any]:
    shift = 2 ** (encoding.bitwidth - 1) if encoding.signed else 0
    scales = encoding.scale.reshape(-1).tolist()
    offsets = [int(offset) - shift for offset in encoding.offset.reshape(-1).tolist()]
    return {
        "name": name,
        "dtype": "INT",
        "bw": encoding.bitwidth,
        "is_sym": encoding.symmetry,
        "scale": scales,
        "offset": offsets,
        "enc_type": "PER_TENSOR" if encoding.channel_axis is None else "PER_CHANNEL",
    }
