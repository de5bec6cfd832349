"""quantize, quantize_dequantize and dequantize as functions, with AIMET's ways to write a grid."""

from collections.abc import Sequence
from typing import Any

import torch

from fxquant.errors import QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import as_shift

_TAIL = ("block_size", "zero_point_shift")


def quantize(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Return the codes of a tensor: ``clamp(round(x / scale) - offset, qmin, qmax)``.

    Args:
        tensor: Float tensor of any shape.
        scale: Real size of one step; broadcasts against the tensor, or has one entry per block.
        offset: Minus the zero point, same shape.
        *args: The grid: (qmin, qmax, block_size=None) or (bitwidth, signed=False, block_size=None).
        **kwargs: The same by name, or num_steps and signed: [0, n], signed [-ceil(n/2), floor(n/2)].

    Returns:
        Whole numbers in the tensor's float type.

    Raises:
        TypeError: If the grid is written in none of these ways.
        QuantizerError: If the scale does not fit the tensor, or its type cannot hold the codes.
    """
    qmin, qmax, block_size, shift = _grid(args, kwargs)
    if shift:
        raise QuantizerError("A grid with a zero-point shift has no codes.")
    return functional.quantize(tensor, scale, offset, qmin, qmax, block_size)


def quantize_dequantize(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Return the nearest values on a grid: ``(quantize(x) + offset) * scale``.

    Args:
        tensor: Float tensor of any shape.
        scale: Real size of one step; broadcasts against the tensor, or has one entry per block.
        offset: Minus the zero point, same shape.
        *args: The grid, as in ``quantize``, followed by zero_point_shift.
        **kwargs: The same by name.

    Raises:
        TypeError: If the grid is written in none of these ways.
        QuantizerError: If the scale does not fit the tensor.
    """
    qmin, qmax, block_size, shift = _grid(args, kwargs)
    return functional.quantize_dequantize(tensor, scale, offset, qmin, qmax, block_size, shift)


def dequantize(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    block_size: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return the real values of codes: ``(x + offset) * scale``, in their float type."""
    return functional.dequantize(tensor, scale, offset, block_size)


def _grid(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int, Sequence[int] | None, float]:
    """Return (qmin, qmax, block_size, zero_point_shift) from any of the ways to write them."""
    is_pair = "qmax" in kwargs or (len(args) > 1 and not isinstance(args[1], bool))
    names = ("qmin", "qmax", *_TAIL) if is_pair else ("bitwidth", "signed", *_TAIL)
    given = dict(zip(names, args, strict=False))
    known = {*names} if is_pair else {*names, "num_steps"}
    if len(args) > len(names) or given.keys() & kwargs.keys() or kwargs.keys() - known:
        raise TypeError(f"Expected (qmin, qmax), (bitwidth, signed) or num_steps; got {args} {kwargs}.")
    values = given | kwargs
    tail = values.get("block_size"), as_shift(values.get("zero_point_shift"))
    if is_pair:
        if "qmin" not in values:
            raise TypeError(f"Expected qmin with qmax; got {args} {kwargs}.")
        if values["qmin"] >= values["qmax"]:
            raise QuantizerError(f"qmin ({values['qmin']}) must be below qmax ({values['qmax']}).")
        return values["qmin"], values["qmax"], *tail
    if ("bitwidth" in values) == ("num_steps" in values):
        raise TypeError(f"Expected one of bitwidth and num_steps; got {args} {kwargs}.")
    steps = int(values["num_steps"]) if "num_steps" in values else 2 ** int(values["bitwidth"]) - 1
    if steps < 1:
        raise QuantizerError(f"A grid of {steps} steps quantizes nothing.", remedy="Use at least one bit.")
    return (-((steps + 1) // 2), steps // 2, *tail) if values.get("signed") else (0, steps, *tail)
