"""set_exactly: give a quantizer a scale and an offset to the last bit.

A quantizer keeps its range as min and max, from which scale and offset follow; not every scale is among those
that follow from two float32 numbers.
"""

import copy
from typing import Any

import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.affine.parametrization import SCALE_OFFSET
from fxquant.quantization.affine.quantizer_base import AffineQuantizerBase

_SHOWN = 3  # numbers in an error


def set_exactly(quantizer: AffineQuantizerBase, scale: torch.Tensor, offset: torch.Tensor) -> None:
    """Write the range that gives a scale and an offset.

    Where no min and max in float32 give them, scale and offset are the quantizer's parameters from then on,
    as AIMET's ``_reparametrize_to_scale_offset`` makes them.

    Args:
        quantizer: Any quantizer on an affine grid.
        scale: Real size of one step, of the quantizer's shape.
        offset: Minus the zero point, of the same shape.

    Raises:
        QuantizerError: If the quantizer can have no such scale or offset; it is then as it was.
    """
    check_fits(quantizer, scale, offset)
    _set(quantizer, scale, offset)


def check_fits(quantizer: AffineQuantizerBase, scale: torch.Tensor, offset: torch.Tensor) -> None:
    """Check that a quantizer can have a scale and an offset, and leave it as it is.

    Raises:
        QuantizerError: If it cannot.
    """
    trial = copy.deepcopy(quantizer)
    _set(trial, scale, offset)
    if not _has(trial, scale, offset):
        grid = f"[{quantizer.qmin}, {quantizer.qmax}]" + (", symmetric" if quantizer.symmetric else "")
        raise QuantizerError(
            f"No quantizer of the grid {grid} has scale {_listed(scale)} and offset {_listed(offset)}.",
            remedy="Zero has to be a code of the grid, and the middle one of a symmetric grid.",
        )


def _set(quantizer: AffineQuantizerBase, scale: torch.Tensor, offset: torch.Tensor) -> None:
    with torch.no_grad():
        quantizer._parametrization.set_scale_and_offset(quantizer, scale, offset)
        if not _has(quantizer, scale, offset):
            SCALE_OFFSET.take_over(quantizer)
            SCALE_OFFSET.set_scale_and_offset(quantizer, scale, offset)


def _has(quantizer: AffineQuantizerBase, scale: torch.Tensor, offset: torch.Tensor) -> bool:
    encoding: Any = quantizer.get_encodings()
    codes = -offset  # of zero
    return (
        bool((encoding.scale == scale.to(encoding.scale.device)).all())
        and bool((encoding.offset == offset.to(encoding.offset.device)).all())
        and bool(((codes >= quantizer.qmin) & (codes <= quantizer.qmax)).all())
    )


def _listed(numbers: torch.Tensor) -> str:
    shown = [f"{number:g}" for number in numbers.reshape(-1)[:_SHOWN].tolist()]
    return ", ".join(shown) + (" ..." if numbers.numel() > _SHOWN else "")
