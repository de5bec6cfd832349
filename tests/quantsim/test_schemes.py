import enum

import pytest

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer import (
    MinMaxEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)
from fxquant.quantsim import QuantScheme
from fxquant.quantsim.schemes import analyzer_of


class Foreign(enum.Enum):
    """An enum of another package, such as AIMET's own, with other values."""

    post_training_tf = 1


@pytest.mark.parametrize(
    ("scheme", "analyzer"),
    [
        (None, MinMaxEncodingAnalyzer),
        ("min_max", MinMaxEncodingAnalyzer),
        ("tf", MinMaxEncodingAnalyzer),
        ("post_training_tf", MinMaxEncodingAnalyzer),
        ("tf_enhanced", TfEnhancedEncodingAnalyzer),
        ("percentile", PercentileEncodingAnalyzer),
        (QuantScheme.post_training_tf_enhanced, TfEnhancedEncodingAnalyzer),
        (QuantScheme.post_training_percentile, PercentileEncodingAnalyzer),
        (Foreign.post_training_tf, MinMaxEncodingAnalyzer),
    ],
    ids=str,
)
def test_scheme_makes_its_analyzer(scheme, analyzer):
    assert type(analyzer_of(scheme)((4, 1))) is analyzer


@pytest.mark.parametrize("scheme", ["entropy", 3])
def test_unknown_scheme_is_refused(scheme):
    with pytest.raises(OptionError, match="quantization scheme"):
        analyzer_of(scheme)
