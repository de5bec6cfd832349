"""Site: one quantizer of a graph to export, and the form that its numbers have in ONNX."""

from dataclasses import dataclass

import onnx_ir as ir
import torch

from fxquant.errors import ExportError, QuantizerError
from fxquant.quantization import AffineEncoding, EncodingBase
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.float import FloatEncoding

_ACTIVATIONS = {
    (0, 255): ir.DataType.UINT8,
    (-128, 127): ir.DataType.INT8,
    (0, 65535): ir.DataType.UINT16,
    (-32768, 32767): ir.DataType.INT16,
    (0, 15): ir.DataType.UINT4,
    (-8, 7): ir.DataType.INT4,
}
_STORED = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
}  # narrowest first
_FLOATS = {
    torch.float8_e4m3fn: ir.DataType.FLOAT8E4M3FN,
    torch.float8_e5m2: ir.DataType.FLOAT8E5M2,
}
_OPSETS = {
    **dict.fromkeys((ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32), 13),
    **dict.fromkeys(_FLOATS.values(), 19),
}  # the first that quantizes to a type; 21 for any other


@dataclass(frozen=True, kw_only=True)
class Site:
    """One quantizer of a graph to export.

    Attributes:
        name: Name of the tensor.
        layer: Dotted path of the user's layer.
        encoding: Its numbers.
        home: Identity of the quantizer: sites of one home share their constants.
        is_stored: Whether it is a constant, stored as codes.
        shape: Shape of a constant; () for an activation.
    """

    name: str
    layer: str
    encoding: EncodingBase
    home: int
    is_stored: bool = False
    shape: tuple[int, ...] = ()

    @property
    def dtype(self) -> ir.DataType:
        """The type of the codes: of a constant, the narrowest that holds them.

        Raises:
            ExportError: If an activation's grid is not that of a type of ONNX, to which QuantizeLinear
                saturates.
        """
        encoding = self.encoding
        if isinstance(encoding, FloatEncoding):
            return _FLOATS[encoding.dtype]
        assert isinstance(encoding, AffineEncoding)
        if self.is_stored:
            lowest, highest = encoding.qmin, encoding.qmax
            return next(t for t, (low, high) in _STORED.items() if low <= lowest and highest <= high)
        found = _ACTIVATIONS.get((encoding.qmin, encoding.qmax))
        if found is None or encoding.zero_point_shift:
            grid = f"[{encoding.qmin}, {encoding.qmax}]"
            raise ExportError(
                f"Tensor '{self.name}' lies on the grid {grid}, no ONNX integer type.",
                layer=self.layer or None,
                remedy="Quantize activations to 8 or 16 bits.",
            )
        return found

    @property
    def opset(self) -> int:
        """The first opset that can say it."""
        has_blocks = self.is_stored and self.encoding.axes(self.shape)[1] is not None
        return 21 if has_blocks else _OPSETS.get(self.dtype, 21)

    @property
    def groups(self) -> GroupedBlockEncoding | None:
        """The encoding, if its block scales are whole multiples of one scale per channel (LPBQ)."""
        encoding = self.encoding
        has_groups = isinstance(encoding, GroupedBlockEncoding) and any(
            g != 1 for g in encoding.block_grouping
        )
        return encoding if has_groups else None  # type: ignore[return-value]  # it is one


def has_form(encoding: EncodingBase | None, shape: tuple[int, ...] = ()) -> bool:
    """Whether ONNX can say what an encoding does to a tensor: a type it has, blocks along one axis."""
    if encoding is None:
        return False
    try:
        encoding.axes(shape)
    except QuantizerError:
        return False
    if isinstance(encoding, FloatEncoding):
        return encoding.dtype in _FLOATS
    assert isinstance(encoding, AffineEncoding)
    return not encoding.zero_point_shift and encoding.qmax < 2**31
