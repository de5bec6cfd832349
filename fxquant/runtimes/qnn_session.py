"""QnnSession: a file compiled by ONNX Runtime's QNN plugin for one chip, in a process of its own."""

import importlib
import weakref
from collections.abc import Mapping
from types import ModuleType

from fxquant.errors import BatchError, missing_extra
from fxquant.runtimes.qnn_process import QnnFailure, QnnProcess
from fxquant.runtimes.runtime import Arrays, Fallback
from fxquant.runtimes.soc import Soc

_PROVIDER = "QNNExecutionProvider"


def qnn_package() -> ModuleType:
    """Return the plugin's package.

    Raises:
        MissingExtraError: If it is not installed, or has no wheel for this platform.
    """
    try:
        return importlib.import_module("onnxruntime_qnn")
    except ImportError as error:
        raise missing_extra("Runtime 'htp'", "onnxruntime-qnn", "qualcomm") from error


class QnnSession:
    """A session.

    Args:
        model: The ONNX model.
        soc: The chip. It is always given to the provider, which otherwise takes a V68 without a word.
        allows_fallback: Whether ONNX Runtime's CPU provider may run nodes.
        options: More options of the QNN provider.
        config: More entries of the session's configuration.

    Attributes:
        left: Nodes that are not in a QNN graph, without reasons.

    Raises:
        MissingExtraError: If the plugin is not installed.
        QnnFailure: If the model is refused.
    """

    def __init__(
        self,
        model: bytes,
        soc: Soc,
        *,
        allows_fallback: bool,
        options: Mapping[str, str] | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        own = {
            "backend_path": str(qnn_package().get_qnn_htp_path()),
            "soc_model": str(soc.model),
            "offload_graph_io_quantization": "0",  # Q and DQ at the file's inputs and outputs run there too
        }
        entries = {} if allows_fallback else {"session.disable_cpu_ep_fallback": "1"}
        self._process = QnnProcess.shared()
        number, nodes = self._process.ask(
            "open", model, own | dict(options or {}), entries | dict(config or {})
        )
        self.left = tuple(Fallback(op=op, node=name) for provider, op, name in nodes if provider != _PROVIDER)
        self._number = number
        weakref.finalize(self, self._process.forget, number).atexit = False

    def run(self, feeds: Arrays) -> Arrays:
        """Return every output by name.

        Raises:
            BatchError: If the inputs do not fit, or the backend ended its process, now or in another session.
        """
        try:
            outputs: Arrays = self._process.ask("run", self._number, feeds)
        except QnnFailure as error:
            shapes = {name: array.shape for name, array in feeds.items()}
            raise BatchError(f"The HTP does not run on inputs of shapes {shapes}: {error}") from error
        return outputs
