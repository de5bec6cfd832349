"""The ranges of quantized parameters: from their values, once."""

import torch
from torch import fx

from fxquant.calibration.methods import METHODS, Method, set_range
from fxquant.calibration.sites import WeightSite, weight_sites
from fxquant.calibration.tensor_statistics import NUM_BINS, Kind
from fxquant.errors import NonFiniteError
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer, MinMaxObserver, MinMaxRange
from fxquant.quantization.encoding_analyzer.rows import as_rows

_TOGETHER = 2**20  # bins searched at a time: bounds memory
_FEWEST_BINS = 512  # two for each step of 8 bits; more where a range has elements to fill them


def check_weights(gm: fx.GraphModule) -> None:
    """Check that all quantized parameters are finite, before any data is run.

    Raises:
        NonFiniteError: If one is not; names the layer.
    """
    for site in weight_sites(gm):
        ends = torch.stack(torch.aminmax(site.parameter.detach())) if site.parameter.numel() else None
        if ends is not None and not bool(ends.isfinite().all()):
            raise NonFiniteError(
                f"NaN or Inf in the weight of '{site.layer}'.", layer=site.layer, remedy="Mend the weight."
            )


def set_weight_range(site: WeightSite, method: Method) -> None:
    """Set the range of a parameter's quantizer from the values it has."""
    quantizer = site.quantizer
    if not quantizer.is_overwrite_allowed() or site.parameter.numel() == 0:
        return
    # of one tensor, there is no other average
    method = METHODS["minmax"] if method.kind is Kind.AVERAGE else method.serving(quantizer)
    analyzer = method.analyzer(quantizer.shape, quantizer.block_size, NUM_BINS, method.percentile)
    if method.kind is Kind.HISTOGRAM and quantizer.shape:
        analyzer = _ByRows(analyzer, site.parameter.detach(), method)
    else:
        analyzer.update_stats(site.parameter)
    set_range(quantizer, analyzer)


class _ByRows(EncodingAnalyzer[MinMaxRange]):
    """Finds the ranges of a tensor some at a time, with an analyzer for each part."""

    def __init__(self, whole: EncodingAnalyzer, tensor: torch.Tensor, method: Method) -> None:
        super().__init__(MinMaxObserver(whole.shape, whole.block_size))
        self._rows = as_rows(tensor, whole.shape, whole.block_size)
        self._method = method
        self.update_stats(tensor)

    def _find_range(
        self, stats: MinMaxRange, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        bins = min(NUM_BINS, max(_FEWEST_BINS, 1 << (8 * self._rows.shape[1]).bit_length()))
        for rows in torch.split(self._rows, max(1, _TOGETHER // bins)):
            part = self._method.analyzer((len(rows), 1), None, bins, self._method.percentile)
            part.update_stats(rows)
            found.append(part.compute_encodings(num_steps, is_symmetric))
        return torch.cat([low for low, _ in found]), torch.cat([high for _, high in found])
