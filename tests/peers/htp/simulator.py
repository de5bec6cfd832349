"""Run a quantized ONNX model on Qualcomm's HTP: on x86-64 Linux, on the simulator inside onnxruntime-qnn.

The simulator prints one line on stdout when it is loaded.
"""

import numpy as np
import onnx
import onnxruntime
import onnxruntime_qnn

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
    result: np.ndarray = session.run(None, feeds)[0]
    return result


def _devices() -> list[object]:
    global _registered
    if not _registered:
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
        _registered = True
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
