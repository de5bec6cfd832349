"""Changes to a loaded ONNX model before a runtime gets it; the user's file stays as it is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from fxquant.errors import BatchError, ExportError

Shapes = Mapping[str, tuple[int, ...]]

TAKEN = "_taken"  # suffix of the input that codes are read from instead


@dataclass(frozen=True, kw_only=True)
class CodeSite:
    """A QuantizeLinear of a file.

    Attributes:
        codes: Name of its output.
        tensor: Name of what it quantizes.
        op: ONNX op that gives that; "input" for an input of the file.
    """

    codes: str
    tensor: str
    op: str


def code_sites(path: Path) -> tuple[CodeSite, ...]:
    """Return the quantizers of a file, in graph order.

    Raises:
        ExportError: If it is no ONNX file.
    """
    graph = load_named(path).graph
    ops = {name: node.op_type for node in graph.node for name in node.output}
    return tuple(
        CodeSite(codes=node.output[0], tensor=node.input[0], op=ops.get(node.input[0], "input"))
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    )


def input_sizes(path: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the sizes of each input of a file; None where the file leaves one open.

    Raises:
        ExportError: If it is no ONNX file.
    """
    graph = load_named(path).graph
    names = input_names(graph)
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in graph.input
        if value.name in names
    }


def load_named(path: Path, *, has_data: bool = True) -> onnx.ModelProto:
    """Load a file and name each node after its first output, which is named after the user's layer.

    Args:
        path: The file.
        has_data: Whether to load constants in files of their own.

    Raises:
        ExportError: If it is no ONNX file.
    """
    try:
        model = onnx.load(str(path), load_external_data=has_data)
    except Exception as error:  # protobuf has errors of its own, none of them onnx's
        raise ExportError(f"'{path}' cannot be read as ONNX: {error}") from error
    for node in model.graph.node:
        node.name = next(filter(None, node.output), node.name)
    return model


def input_names(graph: onnx.GraphProto) -> list[str]:
    """Return the names of a graph's inputs, without constants that old files list among them."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def code_types(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the ONNX type of the codes that each QuantizeLinear gives, by name, in graph order."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {
        node.output[0]: types.get(node.input[2], onnx.TensorProto.UINT8)
        if len(node.input) > 2
        else onnx.TensorProto.UINT8
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }


def expose_codes(graph: onnx.GraphProto, names: Collection[str] | None = None) -> None:
    """Make codes outputs of the graph: all, or those named."""
    given = {value.name for value in graph.output}
    for name, dtype in code_types(graph).items():
        if name not in given and (names is None or name in names):
            graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, None))


def take_codes(graph: onnx.GraphProto) -> dict[str, str]:
    """Let whatever reads codes read them from a new input of the graph; return its name by that of the codes.

    Each QuantizeLinear then gives what its op makes of the codes it is fed, whatever the ops before it make.
    """
    types = code_types(graph)
    taken = {name: f"{name}{TAKEN}" for name in types}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = taken.get(name, name)
    for name, dtype in types.items():
        graph.input.append(onnx.helper.make_tensor_value_info(taken[name], dtype, None))
    return taken


def fix_dimensions(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Give a graph's inputs fixed sizes, and let those of everything else follow from them.

    Args:
        model: The model.
        shapes: The sizes of each input.

    Raises:
        BatchError: If the sizes do not fit those in the file.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    symbols: dict[str, int] = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        declared, given = value.type.tensor_type.shape, shapes.get(value.name)
        if given is None or len(given) != len(declared.dim):
            raise BatchError(
                f"Input '{value.name}' of rank {len(declared.dim)} is given {given or 'nothing'}."
            )
        for dim, size in zip(declared.dim, given, strict=True):
            fixed = dim.dim_value if dim.HasField("dim_value") else symbols.setdefault(dim.dim_param, size)
            if fixed != size and (dim.HasField("dim_value") or dim.dim_param):
                raise BatchError(
                    f"Input '{value.name}' has the sizes {given}, but {size} should be {fixed}.",
                    remedy="Feed what the file was exported for.",
                )
            dim.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
            elif not dim.HasField("dim_value"):
                dim.Clear()


def is_static(graph: onnx.GraphProto) -> bool:
    """Whether all inputs of a graph have fixed sizes."""
    return all(dim.HasField("dim_value") for value in graph.input for dim in value.type.tensor_type.shape.dim)
