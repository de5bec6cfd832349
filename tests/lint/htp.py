"""measure: what Qualcomm's HTP simulator makes of a model."""

import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from tests.lint.measured_net import exactly, feeds

PROVIDER = "QNNExecutionProvider"
SM8650 = "57"
_PLUMBING = {"Quantize", "Dequantize", "Cast", "Convert"}
_FLOATS = {534, 562}  # fp16, fp32, as the backend numbers its types


def measure(net, model):
    """Return "refused", "float" (an fp16 island) or "integer", and the largest difference, in steps."""
    values = feeds(net.given)
    kind, got = run(model, values)
    if kind == "refused":
        return kind, 0.0
    scale = net.grids.get(model.graph.output[0].name, (1.0, 0))[0]
    return kind, float(np.abs(got - exactly(model, values)[0]).max() / scale)


def run(model, values):
    """Return what becomes of a model, and its first output on some inputs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            session = _session(model, folder)
            got = session.run(None, values)[0]
        except Exception:  # the plugin has no error of its own
            return "refused", None
        return ("float" if _has_island(Path(folder)) else "integer"), got


def _session(model, folder):
    import onnxruntime_qnn

    if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    backend = {
        "backend_path": onnxruntime_qnn.get_qnn_htp_path(),
        "soc_model": SM8650,
        "dump_json_qnn_graph": "1",
        "json_qnn_graph_dir": folder,
        "offload_graph_io_quantization": "0",
    }
    options.add_provider_for_devices(devices, backend)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, enable_fallback=0)


def _has_island(folder):
    for path in folder.glob("*.json"):
        graph = json.loads(path.read_text(encoding="utf-8")).get("graph")
        if graph is None:
            continue
        types = {name: tensor.get("data_type") for name, tensor in graph["tensors"].items()}
        for node in graph["nodes"].values():
            touched = {types.get(name) for name in (*node["input_names"], *node["output_names"])}
            if node["type"] not in _PLUMBING and touched & _FLOATS:
                return True
    return False
