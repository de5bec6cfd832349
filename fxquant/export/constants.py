"""Constants: the initializers that a writer adds to a graph, under names of their own."""

import numpy as np
import onnx_ir as ir

from fxquant.export.stored import Stored
from fxquant.graph.names import free_name

_LARGE = 2**16  # bytes; larger codes that two layers share stay shared, such as tied embeddings


class Constants:
    """Adds initializers to a graph; equal zero points, and large codes of one constant, once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._zero_points: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._codes: dict[object, ir.Value] = {}

    def register(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """Add a tensor under a name, or under the first number behind it that is free."""
        free = free_name(name, self.is_taken)
        value = ir.Value(name=free, const_value=tensor, type=ir.TensorType(tensor.dtype))
        value.shape = ir.Shape(tensor.numpy().shape)
        self._graph.register_initializer(value)
        return value

    def is_taken(self, name: str) -> bool:
        """Whether there is an initializer of this name."""
        return name in self._graph.initializers

    def zero_point(self, numbers: np.ndarray) -> ir.Value:
        """Add a zero point, or return an equal one."""
        key = str(numbers.dtype), numbers.shape, numbers.tobytes()
        if key not in self._zero_points:
            name = f"zero_point_{len(self._zero_points)}"
            self._zero_points[key] = self.register(name, ir.tensor(numbers))
        return self._zero_points[key]

    def integers(self, numbers: list[int]) -> ir.Value:
        """Add a list of whole numbers, such as a shape, or return an equal one."""
        key = tuple(numbers)
        if key not in self._codes:
            name = "_".join(["shape", *map(str, numbers)]).replace("-1", "any")
            self._codes[key] = self.register(name, ir.tensor(np.array(numbers, np.int64)))
        return self._codes[key]

    def add(self, stored: Stored, name: str, source: object) -> tuple[list[ir.Value], dict[str, int]]:
        """Add a constant's numbers; return the inputs and the attributes of its DequantizeLinear.

        Args:
            stored: The numbers.
            name: Name of the codes.
            source: What the codes were made from: the same for codes that may be shared.
        """
        codes = self._codes.get(source)
        if codes is None:
            codes = self.register(name, ir.tensor(stored.codes))
            if stored.codes.nbytes > _LARGE:
                self._codes[source] = codes
        inputs = [codes]
        if stored.groups is None:
            inputs.append(self.register(f"{name}_scale", ir.tensor(stored.scale)))
        attributes = {} if stored.axis is None else {"axis": stored.axis}
        if stored.block_size:
            attributes["block_size"] = stored.block_size
        if stored.zero_point is not None:
            inputs.append(self.zero_point(stored.zero_point))
        return inputs, attributes
