"""Encoding analyzers: what they saw of tensors, and the range they derive from it.

| analyzer | covers | order of batches |
|---|---|---|
| MinMax | everything | does not matter |
| MovingAverageMinMax | the range of a typical batch | matters |
| Percentile | all but a share at either end | matters, unless exact |
| Sqnr, TfEnhanced | what a searched grid represents with the least noise | matters, unless exact |
| Mse | what a grid represents with the least squared error | does not matter |
| Entropy | up to the threshold that loses the least information | does not matter |
"""

from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.entropy import EntropyEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.exact_histogram import ExactHistograms
from fxquant.quantization.encoding_analyzer.exact_observer import ExactHistogramObserver
from fxquant.quantization.encoding_analyzer.histogram import Histogram, Histograms
from fxquant.quantization.encoding_analyzer.histogram_observer import HistogramObserver
from fxquant.quantization.encoding_analyzer.min_max import (
    MinMaxEncodingAnalyzer,
    MinMaxObserver,
    MinMaxRange,
)
from fxquant.quantization.encoding_analyzer.moving_average import (
    MovingAverageMinMaxEncodingAnalyzer,
    MovingAverageObserver,
)
from fxquant.quantization.encoding_analyzer.mse import MseEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.observer import Observer, StatisticsDict
from fxquant.quantization.encoding_analyzer.percentile import PercentileEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.rows import reduce_to_shape
from fxquant.quantization.encoding_analyzer.sqnr import SqnrEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.tf_enhanced import TfEnhancedEncodingAnalyzer
from fxquant.quantization.functional import smallest_scale

# AIMET's names of the two: code and tests written for it import them from here.
_HistogramObserver = HistogramObserver
_get_minimum_scale = smallest_scale

__all__ = [
    "EncodingAnalyzer",
    "EntropyEncodingAnalyzer",
    "ExactHistogramObserver",
    "ExactHistograms",
    "Histogram",
    "HistogramObserver",
    "Histograms",
    "MinMaxEncodingAnalyzer",
    "MinMaxObserver",
    "MinMaxRange",
    "MovingAverageMinMaxEncodingAnalyzer",
    "MovingAverageObserver",
    "MseEncodingAnalyzer",
    "Observer",
    "PercentileEncodingAnalyzer",
    "SqnrEncodingAnalyzer",
    "StatisticsDict",
    "TfEnhancedEncodingAnalyzer",
    "cover",
    "reduce_to_shape",
]
