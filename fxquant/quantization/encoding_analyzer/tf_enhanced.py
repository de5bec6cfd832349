"""TF-enhanced: the SQNR search with the settings of AIMET's first generation."""

from collections.abc import Sequence
from typing import ClassVar

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.histogram_observer import check_growth_limit
from fxquant.quantization.encoding_analyzer.sqnr import SqnrEncodingAnalyzer


class TfEnhancedEncodingAnalyzer(SqnrEncodingAnalyzer):
    """Searches as ``SqnrEncodingAnalyzer``, on 512 bins that grow to at most some times the first range.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        block_size: Block sizes by axis; None without blocks.
    """

    growth_limit: ClassVar[float] = 3.0
    """How far the histogram grows in all, as a multiple of the width of the first range."""

    def __init__(self, shape: Sequence[int] | int, block_size: BlockSize = None) -> None:
        super().__init__(shape, num_bins=512, histogram_growth_limit=self.growth_limit, block_size=block_size)

    @classmethod
    def set_growth_limit(cls, growth_limit: float) -> None:
        """Set the growth limit of every analyzer of this class built from now on.

        Raises:
            QuantizerError: If it is below 1.
        """
        check_growth_limit(growth_limit)
        cls.growth_limit = growth_limit
