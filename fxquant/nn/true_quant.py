"""AIMET's place of QuantizationMixin and of the way it replaces torch functions, for code written for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fxquant.nn import quantized
from fxquant.nn.attention import QuantizedMultiheadAttention
from fxquant.nn.kernels import replaced
from fxquant.nn.mixin import QuantizationMixin
from fxquant.nn.quantized import *  # noqa: F403  # made from the op table
from fxquant.nn.recurrent import (
    QuantizedEmbeddingBag,
    QuantizedGRU,
    QuantizedGRUCell,
    QuantizedLSTM,
    QuantizedLSTMCell,
    QuantizedRNN,
    QuantizedRNNCell,
)

__all__ = [
    "QuantizationMixin",
    "QuantizedEmbeddingBag",
    "QuantizedGRU",
    "QuantizedGRUCell",
    "QuantizedLSTM",
    "QuantizedLSTMCell",
    "QuantizedMultiheadAttention",
    "QuantizedRNN",
    "QuantizedRNNCell",
]
__all__ += quantized.__all__

_dispatch_table: dict[Callable[..., Any], Callable[..., Any]] = {}  # functions replaced everywhere: none


def _dispatch(
    torch_func: Callable[..., Any], custom_impl: Callable[..., Any]
) -> AbstractContextManager[None]:
    """Call another function inside the context wherever a torch function is called."""
    return replaced({torch_func: custom_impl})
