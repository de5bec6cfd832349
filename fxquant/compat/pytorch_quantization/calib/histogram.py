"""HistogramCalibrator: amax from a histogram of |x|, by entropy, mean squared error or a percentile."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fxquant.compat.pytorch_quantization.calib._amax_search import AmaxSearch
from fxquant.compat.pytorch_quantization.calib._weights import calibrate_weights
from fxquant.compat.pytorch_quantization.calib.calibrator import _Calibrator
from fxquant.errors import QuantizerError, UnsupportedError
from fxquant.quantization.encoding_analyzer.magnitude_histogram import MagnitudeHistograms

__all__ = ["HistogramCalibrator", "calibrate_weights"]

log = logging.getLogger(__name__)

_Array = npt.NDArray[Any]


class HistogramCalibrator(_Calibrator):
    """Counts |x| into bins from 0 to the largest of the first batch; wider batches add bins of that width.

    With axes that keep their own amax, each of their slices has a histogram of its own, and gets what a
    calibrator without axes finds for it alone. (The original raises NotImplementedError.)

    Args:
        num_bits: Bits of the quantizer.
        axis: Axes that keep an amax of their own; None for one amax.
        unsigned: Whether the quantizer has no negative codes.
        num_bins: Number of bins to begin with.
        grow_method: Deprecated, and without effect.
        skip_zeros: Whether zeros are left out.
        torch_hist: Whether torch counts, on the tensor's device; else numpy, whose first bin begins at the
            smallest |x|.

    Raises:
        UnsupportedError: If numpy is to count along axes.
    """

    def __init__(
        self,
        num_bits: int | tuple[int, int],
        axis: int | Sequence[int] | None,
        unsigned: bool,
        num_bins: int = 2048,
        grow_method: str | None = None,
        skip_zeros: bool = False,
        torch_hist: bool = True,
    ) -> None:
        super().__init__(num_bits, axis, unsigned)
        self._num_bins = num_bins
        self._skip_zeros = skip_zeros
        self._torch_hist = torch_hist
        self._calib_bin_edges: torch.Tensor | _Array | None = None
        self._calib_hist: torch.Tensor | _Array | None = None
        self._by_channel: MagnitudeHistograms | None = None
        self._shape: tuple[int, ...] = ()
        if axis is not None and not torch_hist:
            raise UnsupportedError(
                "numpy counts no histograms along axes.", remedy="Leave torch_hist as True."
            )
        if grow_method is not None:
            log.warning("grow_method is deprecated. Got %s, ignored!", grow_method)

    @torch.no_grad()
    def collect(self, x: torch.Tensor) -> None:
        """Count the magnitudes of a tensor, on its device; one without elements changes nothing.

        Args:
            x: Tensor of any shape and real type.

        Raises:
            QuantizerError: If the axes that keep their amax have other sizes than before.
        """
        x = x.detach()
        if x.numel() and x.min() < 0:
            log.info("Calibrator encountered negative values. It shouldn't happen after ReLU.")
            x = x.abs()
        x = x.float()
        if self._axis is not None:
            self._collect_rows(x, self._axis)
            return
        if self._skip_zeros:
            x = x[x != 0]
        if not x.numel():
            return
        if self._torch_hist:
            self._collect_tensor(x)
        else:
            self._collect_array(x.cpu().numpy())

    def reset(self) -> None:
        """Forget what was collected."""
        self._calib_bin_edges = None
        self._calib_hist = None
        self._by_channel = None

    def compute_amax(
        self, method: str, *, stride: int = 1, start_bin: int = 128, percentile: float = 99.99
    ) -> torch.Tensor | None:
        """Return amax by a method; None if nothing was collected.

        * entropy: TensorRT's. The first bin, where zeros are, is made as full as the second, in a numpy
          histogram for good. P are the counts of the first i bins, with what lies beyond in the last of
          them; Q those bins merged into 2^(num_bits - 1) levels (twice as many unsigned), the count of a
          level shared among its bins that are not empty. amax is the edge after the largest i of least
          KL(P || Q). (NVIDIA's code normalises P and Q into a variable that it drops; scipy.stats.entropy
          does it again, so that both are distributions all the same.)
        * mse: the center, of those from start_bin on, with which as amax the centers are quantized with the
          least mean squared error, narrow range, in float32.
        * percentile: the edge below which the share of the counts is reached.

        Args:
            method: "entropy", "mse" or "percentile".
            stride: Of the candidates of entropy and mse.
            start_bin: Their first bin.
            percentile: From 0 to 100.

        Returns:
            Float32: [] on the CPU; with axes, shaped as MaxCalibrator's and where the tensors were.

        Raises:
            OptionError: If there is no candidate, or the percentile is out of range; a ValueError.
            OptionTypeError: If there is no such method; a TypeError.
        """
        if self._calib_hist is None or self._calib_bin_edges is None:
            return None
        counts, edges = torch.as_tensor(self._calib_hist), torch.as_tensor(self._calib_bin_edges)
        rows = self._by_channel
        numbers = [counts.numel()] if rows is None else list(rows.num_bins)
        length = counts.shape[-1]
        amax = AmaxSearch(
            counts=counts.reshape(-1, length).cpu().double(),
            edges=edges.reshape(-1, edges.shape[-1])[:, : length + 1].cpu(),
            num_bins=torch.tensor(numbers),
            num_bits=self._num_bits,
            unsigned=self._unsigned,
            stride=stride,
            start_bin=start_bin,
        )(method, percentile)
        if method == "entropy" and isinstance(self._calib_hist, np.ndarray):
            self._calib_hist[0] = self._calib_hist[1]
        return amax[0] if rows is None else amax.to(counts.device).reshape(self._shape)

    def _collect_tensor(self, x: torch.Tensor) -> None:
        """Count into torch's histogram."""
        rows = x.reshape(1, -1)
        if self._calib_hist is None:
            found = MagnitudeHistograms.of(rows, self._num_bins)
        else:
            hist, edges = (
                torch.as_tensor(known, device=x.device) for known in (self._calib_hist, self._calib_bin_edges)
            )
            before = MagnitudeHistograms(counts=hist[None], edges=(edges,), num_bins=(hist.numel(),))
            found = before.added(rows)
        self._calib_hist, self._calib_bin_edges = found.counts[0], found.edges[0]

    def _collect_rows(self, x: torch.Tensor, axis: int | Sequence[int]) -> None:
        """Count into a histogram for each slice along the axes."""
        kept = sorted({index % x.dim() for index in ([axis] if isinstance(axis, int) else axis)})
        shape = tuple(size if index in kept else 1 for index, size in enumerate(x.shape))
        shape = shape if len(kept) and max(shape) > 1 else ()
        if self._by_channel is not None and shape != self._shape:
            raise QuantizerError(
                f"amax shape changed! It was {self._shape}, and that of this tensor is {shape}.",
                remedy="Feed tensors of one size along the axes that keep their amax.",
            )
        if not x.numel():
            return
        others = [index for index in range(x.dim()) if index not in kept]
        rows = x.permute(*kept, *others).reshape(int(np.prod([x.shape[index] for index in kept])), -1)
        if self._by_channel is None:
            found = MagnitudeHistograms.of(rows, self._num_bins)
        else:
            found = self._by_channel.added(rows)
        if self._skip_zeros:
            found.counts[:, 0] -= (rows == 0).sum(dim=1)
        self._by_channel, self._shape = found, shape
        self._calib_hist, self._calib_bin_edges = found.counts, found.even_edges()

    def _collect_array(self, x: _Array) -> None:
        """Count into numpy's histogram."""
        if self._calib_hist is None or self._calib_bin_edges is None:
            self._calib_hist, self._calib_bin_edges = np.histogram(x, bins=self._num_bins)
            return
        edges = np.asarray(self._calib_bin_edges)
        top = x.max()
        if top > edges[-1]:
            width = edges[1] - edges[0]
            edges = np.hstack((edges, np.arange(edges[-1] + width, top + width, width)))
        found, self._calib_bin_edges = np.histogram(x, bins=edges)
        found[: len(self._calib_hist)] += np.asarray(self._calib_hist)
        self._calib_hist = found

    def __str__(self) -> str:
        edges = self._calib_bin_edges
        if edges is None:
            shown = "None"
        else:
            flat = edges.reshape(-1)
            shown = f"[{float(flat[0]):.3f}, ..., {float(flat[-1]):.3f}]({len(flat)})"
        return f"HistogramCalibrator(calib_bin_edges={shown})"

    def __repr__(self) -> str:
        return (
            f"HistogramCalibrator({super().__repr__()} "
            f"calib_bin_edges={self._calib_bin_edges} calib_hist={self._calib_hist})"
        )
