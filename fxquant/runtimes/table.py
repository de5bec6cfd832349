"""RUNTIMES: what can run a file here, by name."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from fxquant.errors import unknown_option
from fxquant.runtimes.htp import Htp
from fxquant.runtimes.onnxruntime import ExactOnnxRuntime, OnnxRuntime
from fxquant.runtimes.openvino import OpenVino
from fxquant.runtimes.runtime import Runtime

RUNTIMES: dict[str, type[Runtime]] = {
    runtime.name: runtime for runtime in (OnnxRuntime, ExactOnnxRuntime, Htp, OpenVino)
}
"""Every runtime: "onnxruntime", "onnxruntime-exact" (no graph optimizations), "htp" and "openvino"."""

_OWN = ("self", "path", "exposes_codes", "takes_codes")  # arguments that are not a user's options


def get_runtime(name: str) -> type[Runtime]:
    """Return the class of a runtime; it is constructed from a path, with ``exposes_codes=`` and its options.

    Raises:
        OptionError: If there is no such runtime.
    """
    if name not in RUNTIMES:
        raise unknown_option("runtime", name, RUNTIMES)
    return RUNTIMES[name]


def open_file(
    name: str, path: Path, options: Mapping[str, object] | None = None, *, exposes_codes: bool = False
) -> Runtime:
    """Load a file in a runtime.

    Args:
        name: Name of the runtime.
        path: The ONNX file.
        options: Options of this runtime by name, such as "soc" of "htp".
        exposes_codes: Whether the integer output of every QuantizeLinear is given too.

    Raises:
        OptionError: If there is no such runtime, or it has no such option.
        MissingExtraError: If it is not installed.
        RefusalError: If it refuses the file.
    """
    runtime = get_runtime(name)
    known = [key for key in inspect.signature(runtime.__init__).parameters if key not in _OWN]
    for key in options or {}:
        if key not in known:
            raise unknown_option(f"option of runtime '{name}'", key, known)
    opened: Runtime = runtime(path, exposes_codes=exposes_codes, **(options or {}))  # type: ignore[call-arg]  # a protocol has none
    return opened
