"""Functions of quantized modules."""

from fxquant.quantization.clip import Clip as ClipFunction
from fxquant.quantization.clip import clip

__all__ = ["ClipFunction", "clip"]
