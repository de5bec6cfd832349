"""cuda_ext: the four entry points of NVIDIA's CUDA extension, on every device.

They differ from ``tensor_quant`` as the kernels do: whatever the type, values are computed in float32; a
range is empty below 2^-24, not at it; nothing is checked, so that the host never waits; and there is no
gradient.
"""

import torch

from fxquant.compat.pytorch_quantization.tensor_quant import code_range, scaled_e4m3
from fxquant.errors import QuantizerError
from fxquant.quantization import multiplier

__all__ = ["fake_e4m3fy", "fake_tensor_quant", "fake_tensor_quant_", "fake_tensor_quant_with_axis"]


@torch.no_grad()
def fake_tensor_quant(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    num_bits: int = 8,
    is_unsigned: bool = False,
    narrow_range: bool = True,
) -> torch.Tensor:
    """Return the values on the grid nearest to a tensor, in its type.

    Args:
        inputs: Float tensor of any shape.
        amax: Largest magnitude represented: one number.
        num_bits: Bits of a code.
        is_unsigned: Whether codes start at 0.
        narrow_range: Whether the lowest signed code, which has no opposite, goes unused.

    Raises:
        QuantizerError: If amax is not one number.
    """
    if amax.numel() != 1:
        raise QuantizerError(
            f"fake_tensor_quant takes one amax, not {amax.numel()}.",
            remedy="Call fake_tensor_quant_with_axis.",
        )
    return _fake_quant(inputs, amax.reshape(()), num_bits, is_unsigned, narrow_range)


def fake_tensor_quant_(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    num_bits: int = 8,
    is_unsigned: bool = False,
    narrow_range: bool = True,
) -> None:
    """Do ``fake_tensor_quant`` in the memory of its inputs."""
    with torch.no_grad():
        inputs.copy_(fake_tensor_quant(inputs, amax, num_bits, is_unsigned, narrow_range))


@torch.no_grad()
def fake_tensor_quant_with_axis(
    inputs: torch.Tensor,
    amax: torch.Tensor,
    axis: int,
    num_bits: int = 8,
    is_unsigned: bool = False,
    narrow_range: bool = True,
) -> torch.Tensor:
    """Return what ``fake_tensor_quant`` does, with an amax for each index of one axis.

    Args:
        inputs: Float tensor of any shape.
        amax: Largest magnitudes represented, as many as the axis is long, in any shape.
        axis: The axis.
        num_bits: Bits of a code.
        is_unsigned: Whether codes start at 0.
        narrow_range: Whether the lowest signed code goes unused.

    Raises:
        QuantizerError: If amax does not fit the axis.
    """
    if amax.numel() != inputs.shape[axis]:
        raise QuantizerError(
            f"{amax.numel()} amax do not fit axis {axis} of inputs of shape {tuple(inputs.shape)}."
        )
    shape = [1] * inputs.dim()
    shape[axis] = -1
    return _fake_quant(inputs, amax.reshape(shape), num_bits, is_unsigned, narrow_range)


@torch.no_grad()
def fake_e4m3fy(inputs: torch.Tensor) -> torch.Tensor:
    """Return the 8-bit floats E4M3 nearest to a tensor, in its type; what lies beyond 448 becomes 448."""
    return scaled_e4m3(inputs)


def _fake_quant(
    inputs: torch.Tensor, amax: torch.Tensor, num_bits: int, is_unsigned: bool, narrow_range: bool
) -> torch.Tensor:
    return multiplier.quantize_dequantize(
        inputs,
        amax,
        *code_range(num_bits, is_unsigned, narrow_range),
        dtype=torch.float32,
        counts_floor_as_empty=False,
    )
