"""What quantizers and encodings of every kind have in common."""

from fxquant.quantization.base.encoding import EncodingBase
from fxquant.quantization.base.quantizer import QuantizerBase

__all__ = ["EncodingBase", "QuantizerBase"]
