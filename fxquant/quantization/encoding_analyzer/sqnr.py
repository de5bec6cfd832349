"""SQNR: the range whose grid gives the least quantization noise, among a grid of candidates."""

from collections.abc import Sequence

import torch

from fxquant.errors import OptionError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.exact_histogram import ExactHistograms, power_of_two
from fxquant.quantization.encoding_analyzer.exact_observer import histogram_observer
from fxquant.quantization.encoding_analyzer.histogram import Histograms
from fxquant.quantization.encoding_analyzer.least_noise import least_noise
from fxquant.quantization.encoding_analyzer.noise import expected_noise
from fxquant.quantization.functional import smallest_scale


class SqnrEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Searches the scale and offset with the highest signal-to-quantization-noise ratio.

    Candidates, noise (see ``noise``) and rounding are AIMET's, so that results are equal bit for bit; the
    underscored methods have AIMET's names and arguments, as its users' tests call them. With D scale and O
    offset candidates and n steps, and [min, max] the observed range with zero::

        asymmetric   scale  = (max - min) / n * i / (D - 1),   i = 1 .. D
                     offset = round(-n + j * n / (O - 2)),     j = 0 .. O - 2;   and the observed one
                     each pair then clipped to [min, max]
        symmetric    scale  = 2 * max(max, -min) / n * i / (D - 1),   offset = floor(-n / 2)

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        num_bins: Number of bins of the histogram.
        asymmetric_delta_candidates: D of an asymmetric grid, at least 2.
        symmetric_delta_candidates: D of a symmetric grid, at least 2.
        offset_candidates: O, at least 3.
        max_parallelism: Largest number of ranges searched at a time, which bounds memory.
        gamma: Weight of the error of clipped values over that of rounded ones.
        histogram_growth_limit: How far the histogram may grow beyond the range of the first tensor, in all,
            as a multiple of its width; None for no limit. Exact histograms have none.
        block_size: Block sizes by axis; None without blocks.
        exact: Count into ``ExactHistograms``, which do not depend on the order of the batches, instead of
            AIMET's bins.

    Raises:
        OptionError: If there are no bins or too few candidates.
        QuantizerError: If the growth limit is below 1.
    """

    def __init__(
        self,
        shape: Sequence[int] | int,
        num_bins: int = 2048,
        *,
        asymmetric_delta_candidates: int = 17,
        symmetric_delta_candidates: int = 101,
        offset_candidates: int = 21,
        max_parallelism: int = 64,
        gamma: float = 3.0,
        histogram_growth_limit: float | None = None,
        block_size: BlockSize = None,
        exact: bool = False,
    ) -> None:
        super().__init__(
            histogram_observer(shape, block_size, num_bins, exact=exact, growth_limit=histogram_growth_limit)
        )
        fewest = min(asymmetric_delta_candidates - 2, symmetric_delta_candidates - 2, offset_candidates - 3)
        if fewest < 0 or max_parallelism < 1:
            raise OptionError(
                "The search needs 2 scale and 3 offset candidates, and one range at a time, at least."
            )
        self.asymmetric_delta_candidates = asymmetric_delta_candidates
        self.symmetric_delta_candidates = symmetric_delta_candidates
        self.offset_candidates = offset_candidates
        self.max_parallelism = max_parallelism
        self.gamma = gamma

    def _find_range(
        self, stats: Histograms, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        deltas, offsets = self._pick_test_candidates(stats, num_steps, is_symmetric)
        delta, offset = self._select_best_candidates(deltas, offsets, stats, num_steps)
        minimum = offset * delta
        return minimum, minimum + num_steps * delta

    def _pick_test_candidates(
        self, stats: Histograms, num_steps: int, symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return candidates of scale and offset for the observed range, widened where it is degenerate."""
        is_unseen = stats.minimum > stats.maximum
        dtype = stats.minimum.dtype
        largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max / 4)  # keeps the scale finite
        minimum = stats.minimum.masked_fill(is_unseen, 0.0).clamp(-largest, 0)
        maximum = stats.maximum.masked_fill(is_unseen, 0.0).clamp(0, largest)
        maximum = torch.maximum(maximum, minimum + smallest_scale(num_steps) * num_steps)
        pick = self._pick_test_candidates_symmetric if symmetric else self._pick_test_candidates_asymmetric
        return pick(minimum, maximum, num_steps)

    def _pick_test_candidates_asymmetric(
        self, min_vals: torch.Tensor, max_vals: torch.Tensor, num_steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scales and offsets, float32 [n, D, O] each, for ranges [n] that hold zero."""
        largest = (max_vals - min_vals).float() / num_steps
        observed_offset = torch.round(min_vals / largest)
        observed_min = largest * observed_offset
        observed_max = observed_min + largest * num_steps
        step = num_steps / (min(num_steps + 2, self.offset_candidates) - 2)
        offsets = torch.arange(-num_steps, step, step, dtype=torch.float32, device=min_vals.device).round_()
        offsets = torch.cat((offsets.expand(len(min_vals), -1), observed_offset[:, None]), dim=1)
        deltas = _fractions(largest, self.asymmetric_delta_candidates)
        return self._clamp_delta_offset_values(observed_min, observed_max, num_steps, deltas, offsets)

    def _pick_test_candidates_symmetric(
        self, min_vals: torch.Tensor, max_vals: torch.Tensor, num_steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scales, float32 [n, D, 1], and the one offset [1, 1, 1], for ranges [n] that hold zero."""
        largest = 2 * torch.maximum(max_vals, -min_vals).float() / num_steps
        deltas = _fractions(largest, self.symmetric_delta_candidates).clamp_min(smallest_scale(num_steps))
        offset = torch.full((1, 1, 1), -num_steps // 2, dtype=torch.float32, device=min_vals.device)
        return deltas[:, :, None], offset

    @staticmethod
    def _clamp_delta_offset_values(
        min_vals: torch.Tensor,
        max_vals: torch.Tensor,
        num_steps: int,
        test_deltas: torch.Tensor,
        test_offsets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all pairs of scales [n, D] and offsets [n, O], clipped to [min, max]; [n, D, O]."""
        low = test_deltas[:, :, None] * test_offsets[:, None, :]
        high = low + test_deltas[:, :, None] * num_steps
        low = torch.maximum(min_vals[:, None, None], low)
        high = torch.minimum(max_vals[:, None, None], high)
        deltas = ((high - low) / num_steps).clamp_min(smallest_scale(num_steps))
        return deltas, torch.round(low / deltas)

    def _select_best_candidates(
        self, test_deltas: torch.Tensor, test_offsets: torch.Tensor, stats: Histograms, num_steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scale and offset [n, 1] with the least noise: the first of equals."""
        deltas, offsets = test_deltas.flatten(1), test_offsets.expand(test_deltas.shape).flatten(1)
        if isinstance(stats, ExactHistograms) and num_steps < stats.bins.shape[1]:
            is_finite = (deltas + offsets).isfinite()  # but for some beyond 1e36
            deltas, offsets = (torch.where(is_finite, part, part[:, :1]) for part in (deltas, offsets))
            scales = deltas / power_of_two(stats.exponent)[:, None]
            best = least_noise(stats.counts, stats.first, scales, offsets.double(), num_steps, self.gamma)
        else:
            noise = self._estimate_clip_and_quant_noise(
                stats, test_deltas, test_offsets, num_steps, self.gamma
            )
            best = noise.flatten(1).argmin(dim=1, keepdim=True)
        return deltas.gather(1, best), offsets.gather(1, best)

    def _estimate_clip_and_quant_noise(
        self,
        stats: Histograms,
        test_deltas: torch.Tensor,
        test_offsets: torch.Tensor,
        num_steps: int,
        gamma: float = 1.0,
    ) -> torch.Tensor:
        """Return the noise of each candidate, of the shape of ``test_deltas``: [n, D, O]."""
        shape = test_deltas.shape
        deltas, offsets = (t.expand(shape).flatten(1) for t in (test_deltas, test_offsets))
        parts = (
            slice(start, start + self.max_parallelism) for start in range(0, len(stats), self.max_parallelism)
        )
        centers, counts = stats.centers, stats.counts
        noise = [
            expected_noise(centers[part], counts[part], deltas[part], offsets[part], num_steps, gamma)
            for part in parts
        ]
        return torch.cat(noise).reshape(shape)


def _fractions(largest: torch.Tensor, num_candidates: int) -> torch.Tensor:
    """Return ``largest * i / (D - 1)`` for i = 1 .. D, float32 [n, D]; the last lies beyond largest."""
    numbers = torch.arange(1, num_candidates + 1, dtype=torch.float32, device=largest.device)
    return largest[:, None] * numbers / (num_candidates - 1)
