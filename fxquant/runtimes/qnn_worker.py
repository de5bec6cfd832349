"""A process of its own for QNN sessions: on some files the backend does not fail but ends its process.

It is run as a script and imports nothing of fxquant, so that it starts in a moment. It reads pickled requests
from stdin (sessions to close, a kind and its arguments) and writes pickled replies to stdout: whether it
succeeded, and the result or the error's text.
"""

import itertools
import os
import pickle
import sys
from typing import Any

import onnxruntime

PROVIDER = "QNNExecutionProvider"

_sessions: dict[int, onnxruntime.InferenceSession] = {}
_numbers = itertools.count()


def main() -> None:
    """Answer requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the backend writes to stdout
    while True:
        try:
            closed, kind, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for number in closed:
            _sessions.pop(number, None)
        try:
            reply = True, _ANSWERS[kind](*arguments)
        except Exception as error:  # onnxruntime has no public base class for its errors
            reply = False, str(error)
        pickle.dump(reply, replies)
        replies.flush()


def _open(
    model: bytes, options: dict[str, str], config: dict[str, str]
) -> tuple[int, list[tuple[str, str, str]]]:
    """Return a session's number, and the provider, op and name of each node."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for key, value in config.items():
        settings.add_session_config_entry(key, value)
    settings.add_provider_for_devices(_devices(), options)
    # enable_fallback=0: the Python wrapper otherwise runs a failed session on the CPU without a word
    session = onnxruntime.InferenceSession(model, settings, enable_fallback=0)
    number = next(_numbers)
    _sessions[number] = session
    groups = session.get_provider_graph_assignment_info()
    return number, [
        (group.ep_name, node.op_type, node.name) for group in groups for node in group.get_nodes()
    ]


def _run(number: int, feeds: dict[str, Any]) -> dict[str, Any]:
    session = _sessions[number]
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _devices() -> list[Any]:
    if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
        import onnxruntime_qnn  # this file is imported where the plugin is missing, too

        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise RuntimeError("onnxruntime-qnn finds no QNN device on this machine")
    return devices


_ANSWERS: dict[str, Any] = {"open": _open, "run": _run}

if __name__ == "__main__":
    main()
