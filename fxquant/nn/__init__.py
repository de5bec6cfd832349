"""Quantized modules: torch modules that hold quantizers for inputs, outputs and parameters.

Most are made from the op table, one for each torch class in it: see ``quantized.pyi`` for the list.
"""

from fxquant.nn import custom, fake_quant, modules, quantized, true_quant
from fxquant.nn.attention import QuantizedMultiheadAttention
from fxquant.nn.mixin import QuantizationMixin, quantized_class_of
from fxquant.nn.model_encodings import compute_encodings, compute_param_encodings
from fxquant.nn.quantized import *  # noqa: F403  # made from the op table
from fxquant.nn.quantized import QuantizedNLLLoss
from fxquant.nn.recurrent import (
    QuantizedEmbeddingBag,
    QuantizedGRU,
    QuantizedGRUCell,
    QuantizedLSTM,
    QuantizedLSTMCell,
    QuantizedRNN,
    QuantizedRNNCell,
)
from fxquant.nn.standard import StandardForward
from fxquant.nn.unknown_module import UnknownModuleError

BaseQuantizationMixin = QuantizationMixin  # AIMET's name of it
QuantizedNLLLoss2d = QuantizedNLLLoss  # torch's deprecated name of the loss

__all__ = [
    "BaseQuantizationMixin",
    "QuantizationMixin",
    "QuantizedEmbeddingBag",
    "QuantizedGRU",
    "QuantizedGRUCell",
    "QuantizedLSTM",
    "QuantizedLSTMCell",
    "QuantizedMultiheadAttention",
    "QuantizedNLLLoss2d",
    "QuantizedRNN",
    "QuantizedRNNCell",
    "StandardForward",
    "UnknownModuleError",
    "compute_encodings",
    "compute_param_encodings",
    "custom",
    "fake_quant",
    "modules",
    "quantized_class_of",
    "true_quant",
]
__all__ += quantized.__all__
