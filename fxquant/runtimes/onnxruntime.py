"""OnnxRuntime, ExactOnnxRuntime: ONNX Runtime's CPU provider, fused as it is deployed and node by node."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from fxquant.errors import BatchError, RefusalError
from fxquant.runtimes.in_memory import code_types, expose_codes, input_names, load_named, take_codes
from fxquant.runtimes.runtime import Arrays, Fallback, FloatOp, Runtime

_FLOAT8 = {onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2}


class OnnxRuntime(Runtime):
    """A session on one file, with all graph optimizations on, exact on every processor.

    It tells nothing of what it runs in floating point.

    Args:
        path: The ONNX file.
        exposes_codes: Whether ``run`` also gives the integer output of every QuantizeLinear. They leave fused
            kernels fused: an integer kernel has them as its output anyway.

    Raises:
        RefusalError: If ONNX Runtime refuses the file.
    """

    name = "onnxruntime"
    device = f"CPU, ONNX Runtime {onnxruntime.__version__}"
    fallbacks: tuple[Fallback, ...] = ()
    float_ops: tuple[FloatOp, ...] = ()

    def __init__(self, path: Path, *, exposes_codes: bool = False) -> None:
        model, self._shifted = _loaded(path, exposes_codes=exposes_codes)
        self._session = open_session(model, path, _options(path))
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        given = run_session(self._session, {name: feeds[name] for name in self.inputs if name in feeds})
        codes = {
            name: (given[name].astype(np.int16) - 128).astype(np.int8)
            for name in self._shifted & given.keys()
        }
        return given | codes


class ExactOnnxRuntime(Runtime):
    """A session without graph optimizations: each node as ONNX defines it, in float32 between the quantizers.

    Args:
        path: The ONNX file.
        exposes_codes: Whether ``run`` also gives the integer output of every QuantizeLinear.
        takes_codes: Whether ``run`` takes the codes of every QuantizeLinear among its feeds: each op then
            runs on those, not on what the ops before it gave.

    Raises:
        RefusalError: If ONNX Runtime refuses the file.
    """

    name = "onnxruntime-exact"
    device = f"CPU without graph optimizations, ONNX Runtime {onnxruntime.__version__}"
    fallbacks: tuple[Fallback, ...] = ()
    float_ops: tuple[FloatOp, ...] = ()

    def __init__(self, path: Path, *, exposes_codes: bool = False, takes_codes: bool = False) -> None:
        model = load_named(path)
        self.inputs = input_names(model.graph)
        if exposes_codes:
            expose_codes(model.graph)
        self._taken = take_codes(model.graph) if takes_codes else {}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = open_session(model.SerializeToString(), path, options)
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        codes = {self._taken[name]: feeds[name] for name in self._taken if name in feeds}
        return run_session(
            self._session, codes | {name: feeds[name] for name in self.inputs if name in feeds}
        )


def _options(path: Path) -> onnxruntime.SessionOptions:
    """Return options that leave float8 codes and float16 scales unfused.

    ONNX Runtime 1.31 makes an invalid QGemm or QLinearConcat of them, and drops a Relu before a
    QuantizeLinear to float8, as it may before one to uint8.
    """
    options = onnxruntime.SessionOptions()
    graph = load_named(path, has_data=False).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    scales = {types.get(node.input[1]) for node in graph.node if node.op_type == "QuantizeLinear"}
    if set(code_types(graph).values()) & _FLOAT8 or onnx.TensorProto.FLOAT16 in scales:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def open_session(
    model: bytes | str, path: Path, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Return a session on ONNX Runtime's CPU provider.

    Raises:
        RefusalError: If ONNX Runtime refuses the file.
    """
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no public base class for its errors
        raise RefusalError(f"ONNX Runtime refuses '{path}': {error}") from error


def run_session(session: onnxruntime.InferenceSession, feeds: Arrays) -> Arrays:
    """Return every output of a session by name.

    Raises:
        BatchError: If the inputs do not fit.
    """
    names = [value.name for value in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, feeds), strict=True))
    except Exception as error:  # onnxruntime has no public base class for its errors
        shapes = {name: array.shape for name, array in feeds.items()}
        raise BatchError(f"ONNX Runtime rejects inputs of shapes {shapes}: {error}") from error


def _loaded(path: Path, *, exposes_codes: bool) -> tuple[bytes | str, set[str]]:
    """Return what to load, and the names of the codes in it that were shifted by 128.

    That is the path itself, or the file's changed contents where something has to change.
    """
    is_exact = torch.cpu._is_vnni_supported()
    if is_exact and not exposes_codes:
        return str(path), set()
    model = load_named(path)
    shifted = set() if is_exact else _make_unsigned(model.graph)
    if exposes_codes:
        expose_codes(model.graph)
    return bytes(model.SerializeToString()), shifted


def _make_unsigned(graph: onnx.GraphProto) -> set[str]:
    """Store int8 codes as the same numbers plus 128 in uint8, where activations are uint8; return which.

    On processors without VNNI, ONNX Runtime multiplies uint8 by int8 with an instruction that adds two
    products in 16 bits, where they saturate: results are off by tens of steps. Its kernels of uint8 by uint8
    are exact, as are those of int8 by int8. (Its own option for that, session.x64quantprecision, refuses
    files whose weights share a zero point.)
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    if all(tensors[node.input[2]].data_type != onnx.TensorProto.UINT8 for node in quantizers):
        return set()
    shifted: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        for index in (0, 2):
            name = node.input[index]
            if name not in tensors or tensors[name].data_type != onnx.TensorProto.INT8:
                continue
            if name not in shifted:
                codes = onnx.numpy_helper.to_array(tensors[name]).astype(np.int16) + 128
                shifted[name] = f"{name}_unsigned"
                tensor = onnx.numpy_helper.from_array(codes.astype(np.uint8), shifted[name])
                graph.initializer.append(tensor)
            node.input[index] = shifted[name]
    changed = set(shifted.values())
    return {node.output[0] for node in quantizers if node.input[2] in changed}
