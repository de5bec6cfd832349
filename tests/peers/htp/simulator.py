"""Run a quantized ONNX model on Qualcomm's HTP: on x86-64 Linux, on the simulator inside onnxruntime-qnn.

The simulator prints one line on stdout when it is loaded.
"""

import numpy as np
import onnx
import onnxruntime
import onnxruntime_qnn
from onnx import TensorProto, helper

PROVIDER = "QNNExecutionProvider"
SOC_MODELS = {"V68": 30, "V69": 36, "V73": 43, "V75": 57, "V79": 69, "V81": 87}  # unset means V68
_registered = False


def run_on_htp(model: onnx.ModelProto, feeds: dict[str, np.ndarray], architecture: str) -> np.ndarray:
    """Return the first output; fails unless every node runs on the HTP.

    Args:
        model: A QDQ model with static shapes.
        feeds: An array for each input.
        architecture: A key of SOC_MODELS.
    """
    result: np.ndarray = _run(model, feeds, architecture)[0]
    return result


def run_all_on_htp(model: onnx.ModelProto, x: np.ndarray, architecture: str) -> list[np.ndarray]:
    """Return the output of every QuantizeLinear to uint8, in the order of the file.

    Args:
        model: A QDQ model with one input; its batch dimension may be symbolic.
        x: The input.
        architecture: A key of SOC_MODELS.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = x.shape[0]
    del graph.value_info[:], graph.output[:]
    names = [node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names)
    return _run(model, {graph.input[0].name: x}, architecture)


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], architecture: str) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider_options = {
        "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
        "soc_model": str(SOC_MODELS[architecture]),
        "offload_graph_io_quantization": "0",
    }
    options.add_provider_for_devices(_devices(), provider_options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, enable_fallback=0)
    results: list[np.ndarray] = session.run(None, feeds)
    return results


def _devices() -> list[object]:
    global _registered
    if not _registered:
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        _registered = True
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
