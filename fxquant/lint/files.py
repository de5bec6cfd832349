"""load_graph and save_graph: a model for the linter, weights left where they are until someone asks."""

import logging
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.inliner import inline_local_functions

from fxquant.errors import ModelFileError, ModelTypeError, first_line
from fxquant.files.atomic import write_atomically
from fxquant.lint.graph import Graph

log = logging.getLogger(__name__)


def load_graph(model: object) -> Graph:
    """Return the graph of a file or a model in memory, with shapes where inference finds them.

    Args:
        model: A path, an onnx.ModelProto or an onnx_ir.Model; it is not modified.

    Raises:
        ModelTypeError: If it is none of these.
        ModelFileError: If the file is not there or is no ONNX model.
    """
    if isinstance(model, ir.Model):
        return _graph(ir.to_proto(model), "the model given", None)
    if isinstance(model, onnx.ModelProto):
        return _graph(model, "the model given", None)
    if not isinstance(model, str | Path):
        raise ModelTypeError(
            f"A {type(model).__name__} is no ONNX model.", remedy="Pass a path, a ModelProto or an ir.Model."
        )
    path = Path(model)
    try:
        proto = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:  # protobuf, onnx and the file system have no common error
        raise ModelFileError(
            f"'{path}' cannot be read as an ONNX model: {first_line(error)}.",
            remedy="Pass the path of a whole .onnx file.",
        ) from error
    return _graph(proto, f"'{path}'", path.parent)


def save_graph(graph: Graph, path: Path) -> None:
    """Write a graph, weights in the file itself or, where they were external, in one file beside it.

    Raises:
        ExportError: If it cannot be written.
    """
    graph.model.graph.sort()
    constants = graph.model.graph.initializers.values()
    is_external = any(isinstance(value.const_value, ir.ExternalTensor) for value in constants)
    if is_external:
        ir.external_data.load_to_model(graph.model)
        ir.save(graph.model, path, external_data=f"{path.name}.data")
        return
    proto = ir.to_proto(graph.model)
    write_atomically(path, lambda temporary: onnx.save_model(proto, str(temporary)))


def _graph(proto: onnx.ModelProto, name: str, folder: Path | None) -> Graph:
    if not proto.graph.output:
        raise ModelFileError(f"There is no graph in {name}.", remedy="Pass the path of a whole .onnx file.")
    try:
        return Graph(_with_shapes(proto, folder))
    except Exception as error:  # onnx_ir has no common error for a graph that is not one
        cause = error.__cause__ or error
        raise ModelFileError(f"The graph of {name} is not valid: {first_line(cause)}.") from error


def _with_shapes(proto: onnx.ModelProto, folder: Path | None) -> ir.Model:
    if proto.functions:
        proto = inline_local_functions(proto)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # a rule that needs shapes is then not checked
        log.info("shapes are not known: %s", first_line(error))
    model = ir.from_proto(proto)
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    return model
