"""place_quantizers: give the modules of a graph the quantizers that a configuration asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import fx, nn

from fxquant.errors import OptionError
from fxquant.graph.values import op_of, returns
from fxquant.nn import QuantizationMixin
from fxquant.ops import Op, OutputRange, Returns, op_of_module
from fxquant.passes.hoist_quantizers import inputs_of
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer
from fxquant.quantization.float import FloatQuantizeDequantize
from fxquant.quantization.spec import scale_shape
from fxquant.quantsim.config import SimConfig

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")  # ops that a batch norm folds into
_FLOAT_TYPES = {16: (5, 10), 32: (8, 23)}  # bits to exponent and mantissa bits


class QuantizationDataType(Enum):
    """What quantizers simulate."""

    int = "int"
    float = "float"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What quantizers are like unless set otherwise later.

    Attributes:
        output_bits: Bits of activations, 4 to 32.
        param_bits: Bits of parameters, 2 to 32.
        data_type: Integers, or floats of 16 or 32 bits.
        analyzer: Makes the encoding analyzer of a range of some shape.

    Raises:
        OptionError: If a bitwidth is out of range.
    """

    output_bits: int
    param_bits: int
    data_type: QuantizationDataType
    analyzer: Callable[[tuple[int, ...]], EncodingAnalyzer]

    def __post_init__(self) -> None:
        for what, bits, least in (("output", self.output_bits, 4), ("param", self.param_bits, 2)):
            if not least <= bits <= 32:
                raise OptionError(
                    f"A default {what} bitwidth of {bits} is not supported.", remedy=f"Choose {least} to 32."
                )
            if self.data_type is QuantizationDataType.float and bits not in _FLOAT_TYPES:
                raise OptionError(f"Floats of {bits} bits are not supported.", remedy="Choose 16 or 32.")

    def quantizer(self, shape: tuple[int, ...], bits: int, symmetric: bool) -> nn.Module:
        """Return a new quantizer without a range."""
        if self.data_type is QuantizationDataType.float:
            return FloatQuantizeDequantize(*_FLOAT_TYPES[bits])
        return QuantizeDequantize(shape, bits, symmetric, self.analyzer(shape))


def place_quantizers(gm: fx.GraphModule, config: SimConfig, defaults: Defaults) -> None:
    """Put the quantizers of a configuration into the quantized modules that a graph calls, in place."""
    calls = _calls(gm)
    folded = _foldable_norms(gm, calls)
    inner = _inside_supergroups(gm, calls, config.supergroups) | folded.keys()
    norms = {id(calls[node]) for node in folded.values()}
    for module in gm.modules():
        if isinstance(module, QuantizationMixin) and id(module) not in norms:
            _place_parameters(module, op_of_module(module), config, defaults)
    for node, module in calls.items():
        if node not in inner and _quantizes_output(gm, node, config):
            _place_outputs(gm, node, module, config, defaults)
    for node, module in calls.items():
        _place_inputs(gm, node, module, config, defaults, calls, inner)
    _tie_joined(gm, calls)
    device = next((tensor.device for tensor in gm.parameters() if tensor.device.type != "cpu"), None)
    if device is not None:
        gm.to(device)


def _calls(gm: fx.GraphModule) -> dict[fx.Node, QuantizationMixin]:
    """Return the calls of quantized modules, in order; of a module called twice only the first one."""
    found: dict[int, tuple[fx.Node, QuantizationMixin]] = {}
    for node in gm.graph.nodes:
        module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, QuantizationMixin):
            found.setdefault(id(module), (node, module))
    return dict(found.values())


def _onnx(gm: fx.GraphModule, node: fx.Node) -> str:
    """Return the ONNX op of a call, the first of several; empty if there is none."""
    return _onnx_of(op_of(gm, node))


def _onnx_of(op: Op | None) -> str:
    return "" if op is None else op.onnx.split(",")[0]


def _inside_supergroups(
    gm: fx.GraphModule, calls: dict[fx.Node, QuantizationMixin], groups: tuple[tuple[str, ...], ...]
) -> set[fx.Node]:
    """Return the calls whose output stays inside a supergroup: all of it but its last op."""
    inner: set[fx.Node] = set()
    grouped: set[fx.Node] = set()
    for group in sorted(groups, key=len, reverse=True):
        for start in calls:
            chain = _chain(gm, start, group, calls)
            if chain and not grouped & set(chain):
                inner.update(chain[:-1])
                grouped.update(chain)
    return inner


def _chain(
    gm: fx.GraphModule, start: fx.Node, group: tuple[str, ...], calls: dict[fx.Node, QuantizationMixin]
) -> list[fx.Node]:
    """Return the calls that match a supergroup from a node on, each read by the next one only; else none."""
    chain = [start]
    for onnx in group:
        if _onnx(gm, chain[-1]) != onnx or chain[-1] not in calls:
            return []
        if len(chain) == len(group):
            return chain
        if len(chain[-1].users) != 1:
            return []
        chain.append(next(iter(chain[-1].users)))
    return []


def _foldable_norms(gm: fx.GraphModule, calls: dict[fx.Node, QuantizationMixin]) -> dict[fx.Node, fx.Node]:
    """Return the batch norms that runtimes fold into the layer before them, by the call of that layer."""
    norms = {}
    for node in calls:
        readers = [reader for reader in node.users if _onnx(gm, reader) == "BatchNormalization"]
        if _onnx(gm, node) in _WEIGHTED and readers and len(node.users) == 1 and readers[0] in calls:
            norms[node] = readers[0]
    return norms


def _quantizes_output(gm: fx.GraphModule, node: fx.Node, config: SimConfig) -> bool:
    op = op_of(gm, node)
    own = config.op_types.get(_onnx(gm, node))
    is_returned = any(user.op == "output" for user in node.users)
    if config.quantizes_model_output and is_returned:
        return True
    if op is None or returns(gm, node) is Returns.VALUE:
        return False
    if own is not None and own.is_output_quantized is not None:
        return own.is_output_quantized
    keeps_grid = op.output in (OutputRange.LIKE_INPUT, OutputRange.FLOAT)
    return config.op(_onnx(gm, node)).is_output_quantized is True and not keeps_grid


def _place_outputs(
    gm: fx.GraphModule, node: fx.Node, module: QuantizationMixin, config: SimConfig, defaults: Defaults
) -> None:
    settings = config.op(_onnx(gm, node))
    for index in range(len(module.output_quantizers)):
        quantizer = defaults.quantizer((), defaults.output_bits, bool(settings.is_symmetric))
        if isinstance(quantizer, QuantizeDequantize):
            _constrain(quantizer, settings.constraints)
        module.output_quantizers[index] = quantizer


def _constrain(quantizer: QuantizeDequantize, bounds: tuple[float | None, float | None]) -> None:
    """Fix the ends of a range that are known without data."""
    minimum, maximum = bounds
    if minimum is not None and maximum is not None and minimum == -maximum:
        quantizer.symmetric, quantizer.signed = True, True
    quantizer.set_range(minimum, maximum)
    for name, bound in (("min", minimum), ("max", maximum)):
        if bound is not None:
            quantizer.allow_overwrite(**{name: False})
            quantizer.get_parameter(name).requires_grad_(False)


def _place_inputs(
    gm: fx.GraphModule,
    node: fx.Node,
    module: QuantizationMixin,
    config: SimConfig,
    defaults: Defaults,
    calls: dict[fx.Node, QuantizationMixin],
    inner: set[fx.Node],
) -> None:
    op = op_of(gm, node)
    if op is None:
        return
    settings = config.op(_onnx(gm, node))
    values = inputs_of(node, op)
    missing = len(values) - len(module.input_quantizers) if op.is_variadic else 0
    module.input_quantizers.extend([None] * missing)  # type: ignore[list-item]  # None: absent
    for index, value in enumerate(values[: len(module.input_quantizers)]):
        if not isinstance(value, fx.Node):
            continue
        is_missing = config.quantizes_model_input and not _is_quantized(gm, value, calls, inner)
        if (settings.is_input_quantized and value not in inner) or is_missing:
            quantizer = defaults.quantizer((), defaults.output_bits, bool(settings.is_symmetric))
            module.input_quantizers[index] = quantizer


def _is_quantized(
    gm: fx.GraphModule, node: fx.Node, calls: dict[fx.Node, QuantizationMixin], inner: set[fx.Node]
) -> bool:
    """Whether a tensor lies on a grid already, or need not: inside a supergroup, or no float tensor."""
    if returns(gm, node) is Returns.VALUE or node in inner:
        return True
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, QuantizationMixin):
        if any(quantizer is not None for quantizer in module.output_quantizers):
            return True
        if any(quantizer is not None for quantizer in module.input_quantizers):
            return _keeps_grid(gm, node)
    return _keeps_grid(gm, node) and all(
        _is_quantized(gm, value, calls, inner) for value in node.all_input_nodes
    )


def _keeps_grid(gm: fx.GraphModule, node: fx.Node) -> bool:
    op = op_of(gm, node)
    return op is not None and op.output is OutputRange.LIKE_INPUT


def _place_parameters(
    module: QuantizationMixin, op: Op | None, config: SimConfig, defaults: Defaults
) -> None:
    onnx = _onnx_of(op)
    per_channel = config.op(onnx).per_channel_quantization
    for name in module.param_quantizers:
        parameter = module._parameters.get(name)
        settings = config.parameter(onnx, name)
        if parameter is None or name.startswith("bias") or not settings.is_quantized:
            continue
        axis = op.weight.channel_axis if per_channel and op is not None and op.weight is not None else None
        shape = scale_shape(tuple(parameter.shape), axis if name == "weight" and parameter.dim() else None)
        module.param_quantizers[name] = defaults.quantizer(
            shape, defaults.param_bits, bool(settings.is_symmetric)
        )


def _can_share(producer: QuantizationMixin, value: fx.Node) -> bool:
    """Whether a joined tensor has a quantizer of its own, which nothing else reads through."""
    if len(value.users) != 1:
        return False
    return len(producer.output_quantizers) == 1 and producer.output_quantizers[0] is not None


def _tie_joined(gm: fx.GraphModule, calls: dict[fx.Node, QuantizationMixin]) -> None:
    """Let tensors that are joined share the quantizer of the result: the values are copied as they are."""
    for node, module in reversed(calls.items()):
        op = op_of(gm, node)
        quantizer = module.output_quantizers[0] if len(module.output_quantizers) else None
        if op is None or op.output is not OutputRange.SHARED or quantizer is None:
            continue
        for index, value in enumerate(inputs_of(node, op)):
            producer = calls.get(value) if isinstance(value, fx.Node) else None
            if producer is not None and _can_share(producer, value):
                producer.output_quantizers[0] = quantizer
            elif index < len(module.input_quantizers) and module.input_quantizers[index] is not None:
                module.input_quantizers[index] = quantizer
