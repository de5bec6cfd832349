"""Htp: run an exported file on Qualcomm's Hexagon tensor processor, or on its simulator."""

import platform
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx

from fxquant.errors import RefusalError, first_line
from fxquant.runtimes.in_memory import expose_codes, fix_dimensions, input_names, is_static, load_named
from fxquant.runtimes.qnn_dump import QnnDump, dump_options, read_dump
from fxquant.runtimes.qnn_process import QnnFailure
from fxquant.runtimes.qnn_session import QnnSession, qnn_package
from fxquant.runtimes.quantized_nodes import QUANTIZERS, quantized_nodes
from fxquant.runtimes.runtime import Arrays, Fallback, FloatOp, Runtime
from fxquant.runtimes.soc import DEFAULT_SOC, get_soc

_SHOWN = 5  # nodes named in an error
_SIMULATED = ("x86_64", "AMD64")  # processors for which the plugin ships a simulator instead of the driver


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    session: QnnSession
    fallbacks: tuple[Fallback, ...]
    float_ops: tuple[FloatOp, ...]


class Htp(Runtime):
    """A file on the HTP, through ONNX Runtime's QNN plugin.

    The HTP needs fixed sizes: a file with a symbolic batch dimension is compiled in memory for the sizes of
    each feed when it is run, one whose sizes are fixed at once.

    Args:
        path: The ONNX file.
        exposes_codes: Whether ``run`` also gives the integer output of every QuantizeLinear. On the HTP that
            adds a transposition to each tensor in its own layout; integer ops stay as they are, but ops in
            floating point may be fused otherwise.
        soc: Name of the chip.
        allows_fallback: Whether nodes that the HTP does not take may run on the CPU; they are in
            ``fallbacks``. Some, such as convolutions, cannot: the file is then refused.

    Raises:
        MissingExtraError: If onnxruntime-qnn is not installed.
        OptionError: If the chip is not known.
        RefusalError: If the HTP does not take the file.
    """

    name = "htp"
    fallbacks: tuple[Fallback, ...] = ()
    float_ops: tuple[FloatOp, ...] = ()

    def __init__(
        self,
        path: Path,
        *,
        exposes_codes: bool = False,
        soc: str = DEFAULT_SOC,
        allows_fallback: bool = True,
    ) -> None:
        qnn_package()
        self._path, self._soc, self._allows_fallback = path, get_soc(soc), allows_fallback
        self.device = f"{self._soc}, {_kind()}, onnxruntime-qnn {_version()}"
        self._model = load_named(path)
        self._quantized = quantized_nodes(self._model)
        if exposes_codes:
            expose_codes(self._model.graph)
        self.inputs = input_names(self._model.graph)
        self.outputs = [value.name for value in self._model.graph.output]
        self._loaded: dict[tuple[tuple[int, ...], ...], _Loaded] = {}
        if is_static(self._model.graph):
            sizes = [tuple(dim.dim_value for dim in _dims(value)) for value in self._model.graph.input]
            self._load(dict(zip((value.name for value in self._model.graph.input), sizes, strict=True)))

    def run(self, feeds: Arrays) -> Arrays:
        taken = {name: feeds[name] for name in self.inputs if name in feeds}
        loaded = self._load({name: array.shape for name, array in taken.items()})
        return loaded.session.run(taken)

    def _load(self, shapes: dict[str, tuple[int, ...]]) -> _Loaded:
        key = tuple(shapes.get(name, ()) for name in self.inputs)
        if key not in self._loaded:
            self._loaded[key] = self._compile(shapes)
            self.fallbacks = self._loaded[key].fallbacks
            self.float_ops = self._loaded[key].float_ops
        return self._loaded[key]

    def _compile(self, shapes: dict[str, tuple[int, ...]]) -> _Loaded:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        fix_dimensions(model, shapes)
        with tempfile.TemporaryDirectory(prefix="fxquant-htp-") as name:
            folder = Path(name)
            try:
                session = QnnSession(
                    model.SerializeToString(),
                    self._soc,
                    allows_fallback=self._allows_fallback,
                    options=dump_options(folder),
                    config={"ep.context_file_path": str(self._path)},  # a compiled file's binary is beside it
                )
            except QnnFailure as error:
                raise self._refusal(error, read_dump(folder)) from error
            dump = read_dump(folder)
        fallbacks = tuple(self._explained(node) for node in _fallbacks(session.left, dump))
        return _Loaded(session=session, fallbacks=fallbacks, float_ops=tuple(self._float_ops(dump)))

    def _explained(self, node: Fallback) -> Fallback:
        """Add the most frequent cause to a reason that says little: the HTP takes quantized outputs."""
        if node.op in QUANTIZERS or node.node in self._quantized:
            return node
        reason = f"{node.reason}, " if node.reason else ""
        return replace(node, reason=f"{reason}not quantized in the file")

    def _float_ops(self, dump: QnnDump) -> list[FloatOp]:
        return [
            FloatOp(
                op=node.op,
                nodes=node.nodes,
                precision="f16" if self._soc.has_float16 else node.precision,
                is_quantized=not self._quantized.isdisjoint(node.nodes),
            )
            for node in dump.floats
        ]

    def _refusal(self, error: Exception, dump: QnnDump) -> RefusalError:
        refused = sorted(dump.refused, key=_is_quantizer)
        listed = "; ".join(str(self._explained(node)) for node in refused[:_SHOWN])
        more = f" and {len(dump.refused) - _SHOWN} more" if len(dump.refused) > _SHOWN else ""
        why = f"{len(dump.refused)} node(s): {listed}{more}" if dump.refused else first_line(error)
        return RefusalError(
            f"The HTP of {self._soc.name} refuses '{self._path}': {why}.",
            remedy="Export with target='qualcomm'"
            + ("." if self._allows_fallback else ", or pass allows_fallback=True to run these on the CPU."),
        )


def _fallbacks(left: Iterable[Fallback], dump: QnnDump) -> tuple[Fallback, ...]:
    """Return the nodes given to another provider, with the reasons of the plugin's trace."""
    reasons = {node.node: node.reason for node in dump.refused}
    known = (replace(node, reason=reasons.get(node.node, "")) for node in left)
    return tuple(sorted(known, key=_is_quantizer))


def _is_quantizer(node: Fallback) -> bool:
    """Whether a node only quantizes or dequantizes: it is left because of the op beside it."""
    return node.op in QUANTIZERS


def _dims(value: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _kind() -> str:
    return "simulator" if platform.machine() in _SIMULATED else "device"


def _version() -> str:
    try:
        return version("onnxruntime-qnn")
    except PackageNotFoundError:  # built from source
        return "of unknown version"
