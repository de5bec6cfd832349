"""What quantizers check of analyzers and of the ranges that these observed."""

import warnings

import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.blocks import is_expandable
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer


def check_analyzer_shape(analyzer: EncodingAnalyzer, shape: tuple[int, ...]) -> None:
    """Check that an analyzer's ranges fit a quantizer.

    Raises:
        QuantizerError: If they cannot be expanded to its shape.
    """
    if not is_expandable(analyzer.shape, shape):
        raise QuantizerError(
            f"Encoding analyzer of shape {analyzer.shape} is incompatible with quantizer of shape {shape}."
        )


def warn_of_extremes(observed: tuple[torch.Tensor, torch.Tensor] | None) -> None:
    """Warn where values were seen that are not finite, or within 5 % of the largest float of their type."""
    if observed is None:
        return
    bounds = torch.stack(observed).abs()
    extreme = 0.95 * torch.finfo(bounds.dtype).max
    if bounds.max().item() < extreme:  # which NaN is not
        return
    skew = "values detected within input! This may skew the associated encodings"
    if not bool(bounds.isfinite().all()):
        warnings.warn(f"Infinite or NaN {skew}", stacklevel=4)
    if bool((bounds.isfinite() & (bounds >= extreme)).any()):
        warnings.warn(f"Extreme {skew}", stacklevel=4)
