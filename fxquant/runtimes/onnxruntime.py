"""OnnxRuntime: run an exported file in ONNX Runtime's CPU provider, fused as it is deployed."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from fxquant.errors import BatchError, ExportError

Arrays = dict[str, np.ndarray]


class OnnxRuntime:
    """A session on one file, with all graph optimizations on.

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
        model = _with_exposed_codes(path) if exposes_codes else str(path)
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
        return dict(zip(self.outputs, values, strict=True))


def _with_exposed_codes(path: Path) -> bytes:
    model = onnx.load(str(path))
    given = {value.name for value in model.graph.output}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] not in given:
            value = onnx.helper.make_tensor_value_info(node.output[0], types[node.input[2]], None)
            model.graph.output.append(value)
    return bytes(model.SerializeToString())
