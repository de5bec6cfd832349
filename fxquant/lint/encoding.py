"""Encoding: scale, zero point and granularity of a QuantizeLinear or DequantizeLinear."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_BITS = {
    "INT4": 4,
    "UINT4": 4,
    "FLOAT4E2M1": 4,
    "INT2": 2,
    "UINT2": 2,
    "INT16": 16,
    "UINT16": 16,
    "INT32": 32,
}
_BOUNDS = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT16": (0, 65535),
    "INT16": (-32768, 32767),
    "UINT4": (0, 15),
    "INT4": (-8, 7),
    "UINT2": (0, 3),
    "INT2": (-2, 1),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """How a tensor is quantized.

    Attributes:
        scale: As stored; None where it is computed.
        zero_point: As stored; None where it is absent or computed.
        dtype: Type of the codes; None where the file does not tell.
        axis: As written; None where it is not.
        block_size: As written; 0 for none.
    """

    scale: np.ndarray | None
    zero_point: np.ndarray | None
    dtype: ir.DataType | None
    axis: int | None
    block_size: int

    @classmethod
    def of(cls, node: ir.Node, scale: np.ndarray | None, zero_point: np.ndarray | None) -> "Encoding":
        """Read the encoding of a node whose constants are given."""
        attributes = node.attributes
        return cls(
            scale=scale,
            zero_point=zero_point,
            dtype=_dtype(node),
            axis=attributes["axis"].as_int() if "axis" in attributes else None,
            block_size=attributes["block_size"].as_int() if "block_size" in attributes else 0,
        )

    @property
    def bits(self) -> int:
        """Width of the codes."""
        return 8 if self.dtype is None else _BITS.get(self.dtype.name, 8)

    @property
    def is_per_tensor(self) -> bool:
        """Whether one scale holds for all of the tensor; True where the scale is not known."""
        return self.block_size == 0 and (self.scale is None or self.scale.size == 1)

    @property
    def is_per_channel(self) -> bool:
        """Whether there is a scale per index of one axis."""
        return self.block_size == 0 and self.scale is not None and self.scale.size > 1

    def axis_in(self, rank: int | None) -> int | None:
        """Return the axis from the front, the operator's default included; None where it cannot be told."""
        axis = 1 if self.axis is None else self.axis
        if axis >= 0:
            return axis
        return None if rank is None else axis + rank

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero point is 0; True where it is absent."""
        return self.zero_point is None or not np.any(self.zero_point.astype(np.float32))

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The smallest and largest number of the grid, for one scale; None where they are not known."""
        if self.scale is None or self.scale.size != 1 or self.dtype is None or self.dtype.name not in _BOUNDS:
            return None
        zero = 0.0 if self.zero_point is None else float(self.zero_point.reshape(-1)[0])
        low, high = _BOUNDS[self.dtype.name]
        scale = float(self.scale.reshape(-1)[0])
        return (low - zero) * scale, (high - zero) * scale

    def has_grid_of(self, other: "Encoding") -> bool:
        """Whether two encodings are the same numbers."""
        return self.dtype == other.dtype and self.has_scale_of(other) and self.has_zero_point_of(other)

    def has_scale_of(self, other: "Encoding") -> bool:
        """Whether two encodings have the same scales, along the same axis."""
        if self.scale is None or other.scale is None or self.block_size != other.block_size:
            return False
        same_axis = self.scale.size == 1 or self.axis_in(None) == other.axis_in(None)
        return same_axis and np.array_equal(self.scale.reshape(-1), other.scale.reshape(-1))

    def has_zero_point_of(self, other: "Encoding") -> bool:
        """Whether two encodings have the same zero points; an absent one is 0."""
        if self.zero_point is None or other.zero_point is None:
            return self.is_symmetric and other.is_symmetric
        return np.array_equal(self.zero_point.reshape(-1), other.zero_point.reshape(-1))


def _dtype(node: ir.Node) -> ir.DataType | None:
    """Return the type of the codes: of the zero point, else as an attribute says, else as ONNX says."""
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is not None and (dtype := _value_dtype(zero_point)) is not None:
        return dtype
    if node.op_type == "DequantizeLinear":
        codes = node.inputs[0]
        known = None if codes is None else _value_dtype(codes)
        producer = codes.producer() if codes is not None else None
        if known is None and producer is not None and producer.op_type == "QuantizeLinear":
            return _dtype(producer)
        return known
    if zero_point is None:
        written = node.attributes.get_int("output_dtype", 0)
        return ir.DataType(written) if written else ir.DataType.UINT8
    return None


def _value_dtype(value: ir.Value) -> ir.DataType | None:
    """Return a value's type; that of the constant it comes from where it is not noted."""
    if value.dtype is not None:
        return value.dtype
    if value.const_value is not None:
        return value.const_value.dtype
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Constant" and "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype
    if node.op_type == "Cast":
        return ir.DataType(node.attributes["to"].as_int())
    return None
