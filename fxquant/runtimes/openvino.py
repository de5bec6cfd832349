"""OpenVino: run an exported file in OpenVINO's CPU plugin, a runtime independent of the others."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from fxquant.errors import BatchError, RefusalError, first_line, missing_extra
from fxquant.runtimes.in_memory import code_types, expose_codes, input_names, load_named
from fxquant.runtimes.quantized_nodes import QUANTIZERS, quantized_nodes
from fxquant.runtimes.runtime import Arrays, Fallback, FloatOp, Runtime

_CONFIG = {
    "INFERENCE_PRECISION_HINT": "f32",  # what is float stays float32, not bfloat16 where the processor has it
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # no quantization that is not in the file
}
_DROPPED = (onnx.TensorProto.UINT16, onnx.TensorProto.INT16)  # types of codes it computes without
_FLOATS = ("f32", "f16", "bf16", "f64")
_PLUMBING = frozenset({"Const", "Input", "Output", "Reorder", "Convert", "FakeQuantize", "ShapeOf"})


class OpenVino(Runtime):
    """A file in OpenVINO, with float32 around its integers.

    It drops 16-bit quantizers, neither rounding nor clipping there, unless their codes are given: they are in
    ``fallbacks``. Compare files of 8 bits here.

    Args:
        path: The ONNX file.
        exposes_codes: Whether ``run`` also gives the integer output of every QuantizeLinear. OpenVINO then
            fuses less, and may take files that it otherwise refuses.

    Raises:
        MissingExtraError: If openvino is not installed.
        RefusalError: If OpenVINO refuses the file.
    """

    name = "openvino"
    float_ops: tuple[FloatOp, ...] = ()

    def __init__(self, path: Path, *, exposes_codes: bool = False) -> None:
        package = _package()
        self.device = f"CPU, OpenVINO {package.__version__.split('-')[0]}"
        model = load_named(path)
        self.inputs = input_names(model.graph)
        self.fallbacks = tuple(
            Fallback(op="QuantizeLinear", node=name, reason="16 bits are neither rounded nor clipped")
            for name, dtype in code_types(model.graph).items()
            if dtype in _DROPPED
        )
        if exposes_codes:
            expose_codes(model.graph)
        self.outputs = [value.name for value in model.graph.output]
        core = package.Core()
        try:
            self._compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", _CONFIG)
        except RuntimeError as error:
            raise RefusalError(f"OpenVINO refuses '{path}': {_cause(error)}") from error
        self.float_ops = tuple(_float_ops(self._compiled.get_runtime_model(), model))

    def run(self, feeds: Arrays) -> Arrays:
        taken = {name: feeds[name] for name in self.inputs if name in feeds}
        try:
            results = self._compiled(taken)
        except (RuntimeError, KeyError, ValueError) as error:
            shapes = {name: array.shape for name, array in taken.items()}
            raise BatchError(f"OpenVINO rejects inputs of shapes {shapes}: {_cause(error)}") from error
        return {name: results[name] for name in self.outputs}


def _package() -> ModuleType:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise missing_extra("Runtime 'openvino'", "openvino", "openvino") from error


def _cause(error: BaseException) -> str:
    """Return the last line of an error of OpenVINO, which begins with places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)


def _float_ops(executed: Any, model: onnx.ModelProto) -> list[FloatOp]:
    """Return what the graph that is executed computes in floating point, by the file's nodes."""
    named = {node.name: node.op_type for node in model.graph.node}
    quantized = quantized_nodes(model)
    ops = [
        (_info(op, "layerType"), _info(op, "runtimePrecision"), _nodes(op, named))
        for op in executed.get_ops()
    ]
    integer = {node for _, precision, nodes in ops if precision not in _FLOATS for node in nodes}
    found: list[FloatOp] = []
    for kind, precision, nodes in ops:
        own = tuple(node for node in nodes if node not in integer)  # not the bias beside an integer product
        if kind not in _PLUMBING and precision in _FLOATS and own:
            is_quantized = not quantized.isdisjoint(own)
            found.append(FloatOp(op=kind, nodes=own, precision=precision, is_quantized=is_quantized))
    return found


def _nodes(op: Any, named: dict[str, str]) -> list[str]:
    """Return the file's nodes that an executed op stands for, without quantizers."""
    names = (
        name.split("/")[0] if name not in named else name
        for name in _info(op, "originalLayersNames").split(",")
    )
    return [name for name in dict.fromkeys(names) if named.get(name, "QuantizeLinear") not in QUANTIZERS]


def _info(op: Any, key: str) -> str:
    info = op.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""
