"""QuantizationSpec: how a tensor is to be quantized, decided before any range is known."""

from dataclasses import dataclass

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.affine.grid import MAX_BITWIDTH
from fxquant.quantization.float.float_type import FloatType


@dataclass(frozen=True, kw_only=True)
class QuantizationSpec:
    """How a tensor is to be quantized: integer type, granularity and symmetry.

    Attributes:
        bitwidth: Width of the integer type in bits, 2 to 32.
        signed: Whether the integer type is two's complement.
        symmetric: Whether real zero lies in the middle of the grid, so that the zero point is a constant.
        narrow: Whether the lowest code of a signed grid is left out, so that [-127, 127] for int8.
        channel_axis: Axis that keeps one range per index; None for one range for the whole tensor.
        fixed_range: Real range known without data, as (min, max); None when it is to be measured.
        block_size: Number of elements of a weight, along its input channels, that share a range; None for
            all of them.
        decompressed_bits: Bitwidth of weights whose block scales are whole multiples of a scale per channel
            (LPBQ); None for free scales.
        float_type: The float type of the codes, of as many bits as ``bitwidth``, on a symmetric grid; None
            for integers.

    Raises:
        OptionError: If the values contradict each other.
    """

    bitwidth: int = 8
    signed: bool = True
    symmetric: bool = True
    narrow: bool = False
    channel_axis: int | None = None
    fixed_range: tuple[float, float] | None = None
    block_size: int | None = None
    decompressed_bits: int | None = None
    float_type: FloatType | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bitwidth <= MAX_BITWIDTH:
            raise OptionError(f"A bitwidth of {self.bitwidth} is not supported.", remedy="Choose 2 to 32.")
        if self.narrow and not self.signed:
            raise OptionError("An unsigned grid cannot be narrow.", remedy="Set signed=True or narrow=False.")
        if self.fixed_range is not None and not self.fixed_range[0] <= 0.0 <= self.fixed_range[1]:
            raise OptionError(f"The fixed range {self.fixed_range} does not contain zero.")
        if self.block_size is not None and self.block_size < 1:
            raise OptionError(f"A block of {self.block_size} elements is empty.", remedy="Choose 1 or more.")
        bits = self.decompressed_bits
        if bits is not None and (self.block_size is None or not self.symmetric or bits < self.bitwidth):
            raise OptionError(
                f"A grid of {self.bitwidth} bits does not decompress to {bits} bits.",
                remedy="Choose symmetric blocks, and as many bits or more.",
            )
        if self.float_type is not None and (self.float_type.bitwidth != self.bitwidth or not self.symmetric):
            raise OptionError(f"{self.float_type} has {self.float_type.bitwidth} bits and a symmetric grid.")

    @property
    def qmin(self) -> int:
        """Lowest code of the grid."""
        if not self.signed:
            return 0
        return int(self.narrow) - (1 << (self.bitwidth - 1))

    @property
    def qmax(self) -> int:
        """Highest code of the grid."""
        return (1 << (self.bitwidth - int(self.signed))) - 1

    def scale_shape(self, tensor_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of scale and offset that broadcasts against a tensor of the given shape.

        Raises:
            QuantizerError: If the tensor does not have the channel axis.
        """
        shape = list(scale_shape(tensor_shape, self.channel_axis))
        if self.has_blocks(tensor_shape):
            assert self.block_size is not None
            shape[self.block_axis] = tensor_shape[self.block_axis] // self.block_size
        return tuple(shape)

    @property
    def block_axis(self) -> int:
        """Axis of the input channels, which is cut into blocks: the other one of the first two."""
        return 1 if self.channel_axis == 0 else 0

    def has_blocks(self, tensor_shape: tuple[int, ...]) -> bool:
        """Whether blocks divide a tensor; one that they do not divide has one range per channel."""
        if self.block_size is None or len(tensor_shape) < 2:
            return False
        if self.channel_axis not in (0, 1) and (self.channel_axis != -1 or len(tensor_shape) > 2):
            return False
        return tensor_shape[self.block_axis] % self.block_size == 0

    def __str__(self) -> str:
        dtype = str(self.float_type or f"{'int' if self.signed else 'uint'}{self.bitwidth}")
        symmetry = "" if self.symmetric else " asymmetric"
        granularity = "" if self.channel_axis is None else f" axis {self.channel_axis}"
        blocks = "" if self.block_size is None else f" blocks of {self.block_size}"
        grid = "" if self.decompressed_bits is None else f" on {self.decompressed_bits} bits"
        return f"{dtype}{symmetry}{granularity}{blocks}{grid}"


def scale_shape(tensor_shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
    """Return the shape of scale and offset for a channel axis of a tensor; () for None.

    Raises:
        QuantizerError: If the tensor does not have the axis.
    """
    if channel_axis is None:
        return ()
    rank = len(tensor_shape)
    if not -rank <= channel_axis < rank:
        raise QuantizerError(f"A tensor of shape {tensor_shape} has no axis {channel_axis}.")
    return tuple(size if axis == channel_axis % rank else 1 for axis, size in enumerate(tensor_shape))
