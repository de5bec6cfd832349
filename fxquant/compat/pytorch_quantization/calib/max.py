"""MaxCalibrator: the largest magnitude seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fxquant.compat.pytorch_quantization.calib.calibrator import _Calibrator
from fxquant.compat.pytorch_quantization.utils.reduce_amax import kept_amax
from fxquant.errors import QuantizerError


class MaxCalibrator(_Calibrator):
    """The running maximum of magnitudes, per tensor or along the axes kept.

    Args:
        num_bits: Bits of the quantizer; not used here.
        axis: Axes that keep an amax of their own; None for one amax.
        unsigned: Whether the quantizer has no negative codes; not used here.
        track_amax: Whether to keep the amax of every tensor, in ``amaxs``.
    """

    def __init__(
        self,
        num_bits: int | tuple[int, int],
        axis: int | Sequence[int] | None,
        unsigned: bool,
        track_amax: bool = False,
    ) -> None:
        super().__init__(num_bits, axis, unsigned)
        self._track_amax = track_amax
        self._amaxs: list[npt.NDArray[Any]] = []
        self._calib_amax: torch.Tensor | None = None

    @property
    def amaxs(self) -> list[npt.NDArray[Any]]:
        """The amax of each tensor, in order, where they are tracked."""
        return self._amaxs

    @torch.no_grad()
    def collect(self, x: torch.Tensor) -> None:
        local = kept_amax(x.detach(), self._axis)
        if self._calib_amax is None:
            self._calib_amax = local
        elif local.shape != self._calib_amax.shape:
            raise QuantizerError(
                f"amax shape changed! It was {tuple(self._calib_amax.shape)}, "
                f"and that of this tensor is {tuple(local.shape)}.",
                remedy="Feed tensors of one size along the axes that keep their amax.",
            )
        else:
            self._calib_amax = torch.maximum(self._calib_amax, local)
        if self._track_amax:
            self._amaxs.append(np.asarray(local.float().cpu()))

    def reset(self) -> None:
        self._calib_amax = None

    def compute_amax(self, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        return self._calib_amax
