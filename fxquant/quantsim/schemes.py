"""QuantScheme: how a QuantizationSimModel finds ranges from data."""

from collections.abc import Callable
from enum import Enum

from fxquant.errors import unknown_option
from fxquant.quantization.encoding_analyzer import (
    EncodingAnalyzer,
    MinMaxEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)


class QuantScheme(Enum):
    """Ways to find a range, by AIMET's names."""

    min_max = "min_max"
    post_training_tf = "tf"
    post_training_tf_enhanced = "tf_enhanced"
    post_training_percentile = "percentile"


_ANALYZERS: dict[QuantScheme, Callable[[tuple[int, ...]], EncodingAnalyzer]] = {
    QuantScheme.min_max: MinMaxEncodingAnalyzer,
    QuantScheme.post_training_tf: MinMaxEncodingAnalyzer,
    QuantScheme.post_training_tf_enhanced: TfEnhancedEncodingAnalyzer,
    QuantScheme.post_training_percentile: PercentileEncodingAnalyzer,
}


def scheme_of(scheme: object) -> QuantScheme:
    """Return a scheme given as a QuantScheme, by one of its names, or None for min-max.

    Raises:
        OptionError: If there is no such scheme.
    """
    name = getattr(scheme, "name", scheme) or "min_max"
    known = {form: member for member in QuantScheme for form in (member.name, member.value)}
    if name not in known:
        raise unknown_option("quantization scheme", name, known)
    return known[str(name)]


def analyzer_of(scheme: object) -> Callable[[tuple[int, ...]], EncodingAnalyzer]:
    """Return what makes the analyzers of a scheme, given as ``scheme_of`` takes it.

    Raises:
        OptionError: If there is no such scheme.
    """
    return _ANALYZERS[scheme_of(scheme)]
