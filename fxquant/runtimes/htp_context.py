"""export_context: compile a file for a Qualcomm chip ahead of time."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from fxquant.errors import RefusalError, first_line
from fxquant.files.atomic import write_atomically
from fxquant.runtimes.in_memory import fix_dimensions, load_named
from fxquant.runtimes.qnn_dump import dump_options, read_dump
from fxquant.runtimes.qnn_process import QnnFailure
from fxquant.runtimes.qnn_session import QnnSession
from fxquant.runtimes.soc import DEFAULT_SOC, get_soc

_NODE = "EPContext"


@dataclass(frozen=True, kw_only=True)
class ContextFiles:
    """Where a compiled model is.

    Attributes:
        onnx: An ONNX file with one EPContext node, which names the binary beside it.
        binary: The QNN context binary, for one chip.
    """

    onnx: Path
    binary: Path


def export_context(
    path: str | Path, out: str | Path, *, soc: str = DEFAULT_SOC, batch_size: int = 1
) -> ContextFiles:
    """Compile a file for a chip's HTP, all of it, and write what its QNN runtime loads without compiling.

    The simulator loads a binary of another chip too: that it loads here does not say that it fits there.

    Args:
        path: The ONNX file.
        out: The ONNX file to write; the binary is put beside it. Both are complete before either is put in
            place; what was there stays where that fails.
        soc: Name of the chip.
        batch_size: Size of every symbolic dimension of the file's inputs.

    Raises:
        MissingExtraError: If onnxruntime-qnn is not installed.
        OptionError: If the chip is not known.
        RefusalError: If the HTP does not take all of the file.
        ExportError: If the files cannot be written.
    """
    chip, out = get_soc(soc), Path(out)
    model = load_named(Path(path))
    fix_dimensions(model, _shapes(model.graph, batch_size))
    with tempfile.TemporaryDirectory(prefix="fxquant-context-") as name:
        folder = Path(name)
        compiled = folder / out.name
        config = {
            "ep.context_enable": "1",
            "ep.context_file_path": str(compiled),
            "ep.context_embed_mode": "0",
        }
        try:
            QnnSession(
                model.SerializeToString(),
                chip,
                allows_fallback=False,
                options=dump_options(folder),
                config=config,
            )
        except QnnFailure as error:
            refused = read_dump(folder).refused
            why = "; ".join(str(node) for node in refused[:5]) or first_line(error)
            raise RefusalError(f"The HTP of {chip.name} does not take all of '{path}': {why}.") from error
        binary = _checked(compiled)
        files = ContextFiles(onnx=out, binary=out.parent / binary.name)
        write_atomically(files.binary, lambda temporary: _copy(binary, temporary))
        write_atomically(files.onnx, lambda temporary: _copy(compiled, temporary))
    return files


def _shapes(graph: onnx.GraphProto, batch_size: int) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else batch_size
            for dim in value.type.tensor_type.shape.dim
        )
        for value in graph.input
    }


def _checked(compiled: Path) -> Path:
    """Return the binary that a compiled model names, having read the model back."""
    if not compiled.exists():
        raise RefusalError("The QNN plugin compiled the file but wrote nothing.")
    nodes = onnx.load(str(compiled), load_external_data=False).graph.node
    named: list[Path] = [
        compiled.parent / attribute.s.decode()
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "ep_cache_context"
    ]
    if {node.op_type for node in nodes} != {_NODE} or len(set(named)) != 1 or not named[0].stat().st_size:
        ops = ", ".join(sorted({node.op_type for node in nodes}))
        raise RefusalError(f"The compiled file is not one context but: {ops}.")
    return named[0]


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
