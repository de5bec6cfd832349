"""encodings_json: the encodings of a quantized model as AIMET writes them, formats 0.6.1, 1.0.0 and 2.0.0."""

from collections.abc import Iterator
from typing import Any

from torch import fx

from fxquant.errors import unknown_option
from fxquant.graph.annotations import TENSOR
from fxquant.graph.names import module_name
from fxquant.graph.values import attribute, is_quantizer
from fxquant.nn import QuantizationMixin
from fxquant.quantization import EncodingBase, QuantizerBase

VERSIONS = ("0.6.1", "1.0.0", "2.0.0")
DEFAULT_VERSION = "1.0.0"


def encodings_json(gm: fx.GraphModule, producer: str, version: str = DEFAULT_VERSION) -> dict[str, Any]:
    """Return activation and parameter encodings as the JSON document of a format.

    Tensors have the names they have in the ONNX file. In 0.6.1 and 1.0.0 an offset counts from the lowest
    code of an unsigned grid: minus the zero point, and 2^(b-1) less for a signed one.

    Raises:
        OptionError: If there is no such format.
        QuantizerError: If an encoding cannot be said in it.
    """
    if version not in VERSIONS:
        raise unknown_option("encodings format", version, VERSIONS)
    activations: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, encoding, shape, is_parameter in _encodings(gm):
        entry = encoding.to_qnn_encoding_dict(version, shape)
        if entry:  # 2.0.0 does not count 16-bit floats as quantized
            (parameters if is_parameter else activations)[name] = entry
    head = {"version": version, "producer": producer}
    if version == "2.0.0":
        return head | {"encodings": _named(activations | parameters)}
    kinds = {"activation_encodings": activations, "param_encodings": parameters}
    if version == "1.0.0":
        kinds = {kind: _named(entries) for kind, entries in kinds.items()}  # type: ignore[misc]  # lists in this format
    return head | kinds | {"excluded_layers": []}


def _encodings(gm: fx.GraphModule) -> Iterator[tuple[str, EncodingBase, tuple[int, ...] | None, bool]]:
    """Yield each tensor's name, encoding, shape where it is a constant, and whether it is one."""
    for node in gm.graph.nodes:
        if node.op != "call_module":
            continue
        module = gm.get_submodule(str(node.target))
        if isinstance(module, QuantizerBase) and is_quantizer(gm, node):
            encoding = module.get_encodings()
            assert encoding is not None
            source = node.all_input_nodes[0]
            constant = attribute(gm, source) if source.op == "get_attr" else None
            shape = getattr(constant, "shape", None)
            yield str(node.meta.get(TENSOR, node.name)), encoding, shape, constant is not None
        elif isinstance(module, QuantizationMixin):
            for name, quantizer in module.param_quantizers.items():
                if isinstance(quantizer, QuantizerBase):
                    encoding = quantizer.get_encodings()
                    assert encoding is not None
                    yield f"{module_name(gm, node)}.{name}", encoding, getattr(module, name).shape, True


def _named(entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name} | entry for name, entry in entries.items()]
