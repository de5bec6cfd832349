"""The calibration methods: how a range follows from statistics."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from fxquant.calibration.tensor_statistics import NUM_BINS, Kind, TensorStatistics
from fxquant.errors import OptionError, unknown_option
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer import (
    EncodingAnalyzer,
    EntropyEncodingAnalyzer,
    MinMaxEncodingAnalyzer,
    MovingAverageMinMaxEncodingAnalyzer,
    MseEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
)
from fxquant.quantization.of_spec import Trainable

_Shape = tuple[int, ...]
DEFAULT_PERCENTILE = 99.99


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to find the range of a tensor.

    Attributes:
        name: Its name.
        kind: The statistics that it needs, of one pass over the data.
        analyzer: Makes the encoding analyzer for a shape, a block size, a number of bins of values, and the
            percentile if there is one.
        covers: What the range covers, in words.
        for_floats: Whether it also serves float types of 8 bits, whose grid is not even.
        percentile: The percentile, in [50, 100]; None for a method that has none.
    """

    name: str
    kind: Kind
    analyzer: Callable[[_Shape, BlockSize, int, float | None], EncodingAnalyzer]
    covers: str
    for_floats: bool = True
    percentile: float | None = None

    def analyzer_for(self, statistics: TensorStatistics) -> EncodingAnalyzer:
        """Return an analyzer that has seen what the statistics hold.

        Raises:
            StatisticsError: If they do not hold what the method needs.
        """
        analyzer = self.analyzer(statistics.shape, statistics.block_size, NUM_BINS, self.percentile)
        if self.kind is Kind.RANGE:
            analyzer.observer.merge_stats(statistics.range())
        elif self.kind is Kind.AVERAGE:
            analyzer.observer.merge_stats(statistics.average())
        else:
            histogram = statistics.histogram()
            if histogram is not None and getattr(analyzer.observer, "is_magnitude", False):
                histogram = histogram.magnitudes(NUM_BINS // 2)
            if histogram is not None:
                analyzer.observer.merge_stats(histogram)
        return analyzer

    def serving(self, quantizer: Trainable) -> "Method":
        """Return the method for a quantizer: min-max where its grid is not even and this one needs that."""
        is_even = isinstance(quantizer, QuantizeDequantize)
        return self if is_even or self.for_floats else METHODS["minmax"]

    def __str__(self) -> str:
        return self.name if self.percentile is None else f"{self.name}:{self.percentile:g}"


_TABLE = (
    Method(
        name="minmax",
        kind=Kind.RANGE,
        analyzer=lambda shape, block_size, *_: MinMaxEncodingAnalyzer(shape, block_size),
        covers="everything that was seen",
    ),
    Method(
        name="moving_average",
        kind=Kind.AVERAGE,
        analyzer=lambda shape, block_size, *_: MovingAverageMinMaxEncodingAnalyzer(
            shape, block_size=block_size
        ),
        covers="the range of a typical batch: an average that moves by a tenth with every batch",
    ),
    Method(
        name="percentile",
        kind=Kind.HISTOGRAM,
        analyzer=lambda shape, block_size, bins, percentile: PercentileEncodingAnalyzer(
            shape, bins, percentile or DEFAULT_PERCENTILE, block_size, exact=True
        ),
        covers="all but a share of the values at either end, 0.01 % unless written percentile:99.9",
        percentile=DEFAULT_PERCENTILE,
    ),
    Method(
        name="entropy",
        kind=Kind.HISTOGRAM,
        analyzer=lambda shape, block_size, bins, _: EntropyEncodingAnalyzer(
            shape, bins // 2, block_size=block_size
        ),
        covers="up to the threshold that loses the least information (TensorRT's)",
        for_floats=False,
    ),
    Method(
        name="mse",
        kind=Kind.HISTOGRAM,
        analyzer=lambda shape, block_size, bins, _: MseEncodingAnalyzer(shape, bins, block_size=block_size),
        covers="what a grid represents with the least squared error",
        for_floats=False,
    ),
    Method(
        name="sqnr",
        kind=Kind.HISTOGRAM,
        analyzer=lambda shape, block_size, bins, _: SqnrEncodingAnalyzer(
            shape, bins, block_size=block_size, exact=True
        ),
        covers="what a grid represents with the best signal-to-noise ratio, clipping counting threefold",
        for_floats=False,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}
"""The methods by name."""


def set_range(quantizer: Trainable, analyzer: EncodingAnalyzer) -> None:
    """Set the range of a quantizer to what an analyzer finds that is not its own."""
    own, quantizer.encoding_analyzer = quantizer.encoding_analyzer, analyzer
    try:
        quantizer.set_range_from_stats()
    finally:
        quantizer.encoding_analyzer = own


def method_of(text: str) -> Method:
    """Return the method that a text names: "mse", or "percentile:99.9".

    Raises:
        OptionError: If there is no such method, or its percentile is not one.
    """
    name, colon, number = text.partition(":")
    if name not in METHODS or (colon and METHODS[name].percentile is None):
        raise unknown_option("calibration method", text, METHODS)
    method = METHODS[name]
    if not colon:
        return method
    try:
        percentile = float(number)
    except ValueError:
        percentile = math.nan
    if not 50 <= percentile <= 100:
        raise OptionError(
            f"'{text}' has no percentile from 50 to 100.", remedy="Write it as 'percentile:99.9'."
        )
    return replace(method, percentile=percentile)
