"""OnnxRuntime: run an exported file in ONNX Runtime's CPU provider, fused as it is deployed."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from fxquant.errors import BatchError, ExportError

Arrays = dict[str, np.ndarray]


class OnnxRuntime:
    """A session on one file, with all graph optimizations on, exact on every processor.

    Args:
        path: The ONNX file.
        exposes_codes: Whether ``run`` also gives the integer output of every QuantizeLinear. They leave fused
            kernels fused: an integer kernel has them as its output anyway.

    Raises:
        ExportError: If ONNX Runtime refuses the file.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, *, exposes_codes: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        model, self._shifted = _loaded(path, exposes_codes=exposes_codes)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no public base class for its errors
            raise ExportError(f"ONNX Runtime refuses '{path}': {error}") from error
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        """Return every output by name.

        Args:
            feeds: An array for each input of the file.

        Raises:
            BatchError: If the inputs do not fit the file.
        """
        try:
            values = self._session.run(None, {name: feeds[name] for name in self.inputs})
        except Exception as error:  # onnxruntime has no public base class for its errors
            shapes = {name: array.shape for name, array in feeds.items()}
            raise BatchError(f"ONNX Runtime rejects inputs of shapes {shapes}: {error}") from error
        given = dict(zip(self.outputs, values, strict=True))
        codes = {
            name: (given[name].astype(np.int16) - 128).astype(np.int8)
            for name in self._shifted & given.keys()
        }
        return given | codes


def _loaded(path: Path, *, exposes_codes: bool) -> tuple[bytes | str, set[str]]:
    """Return what to load, and the names of the codes in it that were shifted by 128.

    That is the path itself, or the file's changed contents where something has to change.
    """
    is_exact = torch.cpu._is_vnni_supported()
    if is_exact and not exposes_codes:
        return str(path), set()
    model = onnx.load(str(path))
    shifted = set() if is_exact else _make_unsigned(model.graph)
    if exposes_codes:
        _expose_codes(model.graph)
    return bytes(model.SerializeToString()), shifted


def _expose_codes(graph: onnx.GraphProto) -> None:
    given = {value.name for value in graph.output}
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] not in given:
            value = onnx.helper.make_tensor_value_info(node.output[0], types[node.input[2]], None)
            graph.output.append(value)


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
