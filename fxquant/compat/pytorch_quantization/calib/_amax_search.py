"""The search for amax in histograms of |x|, by NVIDIA's names of the methods and of their options."""

from dataclasses import dataclass

import torch

from fxquant.errors import OptionError, OptionTypeError
from fxquant.quantization.encoding_analyzer.least_center_error import center_of_least_error
from fxquant.quantization.encoding_analyzer.least_divergence import kept_with_least_divergence
from fxquant.quantization.encoding_analyzer.percentile_edge import edge_at_percentile


@dataclass(frozen=True, kw_only=True, eq=False)
class AmaxSearch:
    """Finds the amax of n histograms together.

    Attributes:
        counts: Float64 [n, bins], on the CPU; zero beyond the bins of a histogram.
        edges: Float [n, bins + 1], on the CPU.
        num_bins: Bins of each, int64 [n].
        num_bits: Bits of the quantizer.
        unsigned: Whether it has no negative codes.
        stride: Of the candidates of entropy and mse, at least 1.
        start_bin: Their first bin.
    """

    counts: torch.Tensor
    edges: torch.Tensor
    num_bins: torch.Tensor
    num_bits: int | tuple[int, int]
    unsigned: bool
    stride: int = 1
    start_bin: int = 128

    def __call__(self, method: str, percentile: float = 99.99) -> torch.Tensor:
        """Return amax, float32 [n].

        Raises:
            OptionError: If no candidate is among the bins, or the percentile is out of range.
            OptionTypeError: If the method is unknown, or the quantizer is of a float type.
        """
        if method == "entropy":
            return self._at(self.edges, self._kept())
        if method == "mse":
            is_zero = self.edges[:, 0] < 0  # only so has numpy put bins around a channel of zeros
            return self._at(self._centers(), self._best_center(is_zero)).masked_fill(is_zero, 0.0)
        if method == "percentile":
            return self._at(self.edges, self._edge(percentile))
        raise OptionTypeError(
            f"Unknown calibration method {method}.", remedy="Choose 'entropy', 'mse' or 'percentile'."
        )

    def _kept(self) -> torch.Tensor:
        """Return numbers of kept bins; zeros do not count, so the first bin is taken to be as the second."""
        counts = self.counts.clone()
        counts[:, 0] = counts[:, min(1, counts.shape[1] - 1)]
        return kept_with_least_divergence(
            counts,
            2 ** (self._bits() - 1 + int(self.unsigned)),
            start=self.start_bin,
            stride=self.stride,
            num_bins=self.num_bins,
        )

    def _best_center(self, is_zero: torch.Tensor) -> torch.Tensor:
        return center_of_least_error(
            self.counts.masked_fill(is_zero[:, None], 0.0),
            self._centers(),
            2 ** (self._bits() - 1 + int(self.unsigned)) - 1,
            start=self.start_bin,
            stride=self.stride,
            num_bins=self.num_bins,
        )

    def _edge(self, percentile: float) -> torch.Tensor:
        if not 0 <= percentile <= 100:
            raise OptionError(f"Invalid percentile {percentile}: it must be in range 0 <= percentile <= 100.")
        return torch.minimum(edge_at_percentile(self.counts, percentile), self.num_bins)

    def _centers(self) -> torch.Tensor:
        edges = self.edges.float()
        return (edges[:, 1:] + edges[:, :-1]) / 2

    def _bits(self) -> int:
        if isinstance(self.num_bits, tuple):
            raise OptionTypeError(
                f"Histograms are searched for integers, and num_bits is {self.num_bits}.",
                remedy="Calibrate float types by 'max' or 'percentile'.",
            )
        return self.num_bits

    def _at(self, values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return values.gather(1, which[:, None])[:, 0].float()
