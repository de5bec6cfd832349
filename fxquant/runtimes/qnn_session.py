"""open_qnn_session: an ONNX Runtime session on the QNN plugin, for one chip."""

import contextlib
import ctypes
import functools
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import onnxruntime

from fxquant.errors import missing_extra
from fxquant.runtimes.soc import Soc

PROVIDER = "QNNExecutionProvider"


def qnn_package() -> ModuleType:
    """Return the plugin's package.

    Raises:
        MissingExtraError: If it is not installed, or has no wheel for this platform.
    """
    try:
        return importlib.import_module("onnxruntime_qnn")
    except ImportError as error:
        raise missing_extra("Runtime 'htp'", "onnxruntime-qnn", "qualcomm") from error


def open_qnn_session(
    model: bytes,
    soc: Soc,
    *,
    allows_fallback: bool,
    options: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Return a session.

    Args:
        model: The ONNX model.
        soc: The chip. It is always given to the provider, which otherwise takes a V68 without a word.
        allows_fallback: Whether ONNX Runtime's CPU provider may run nodes.
        options: More options of the QNN provider.
        config: More entries of the session's configuration.

    Raises:
        MissingExtraError: If the plugin is not installed.
        Exception: Whatever ONNX Runtime raises where it refuses the model; it has no class for it.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not allows_fallback:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for key, value in (config or {}).items():
        settings.add_session_config_entry(key, value)
    package = qnn_package()
    own = {
        "backend_path": str(package.get_qnn_htp_path()),
        "soc_model": str(soc.model),
        "offload_graph_io_quantization": "0",  # Q and DQ at the file's inputs and outputs run on the HTP too
    }
    with _stdout_kept():
        settings.add_provider_for_devices(_devices(), own | dict(options or {}))
        # enable_fallback=0: the Python wrapper otherwise runs a failed session on the CPU without a word
        return onnxruntime.InferenceSession(model, settings, enable_fallback=0)


@functools.cache
def _devices() -> list[Any]:
    package = qnn_package()
    onnxruntime.register_execution_provider_library(PROVIDER, package.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise missing_extra("Runtime 'htp'", "onnxruntime-qnn (for this platform)", "qualcomm")
    return devices


@contextlib.contextmanager
def _stdout_kept() -> Iterator[None]:
    """Send what libraries write to stdout to stderr: the backend prints a line where it is loaded."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(
            OSError, AttributeError, TypeError
        ):  # no C library by that name: nothing held
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
