"""AIMET's names for where quantize, quantize_dequantize and dequantize are computed: one place here."""

import contextlib
from types import ModuleType

from fxquant.errors import unknown_option
from fxquant.quantization import functional as torch_builtins
from fxquant.quantization.affine.functions import dequantize, quantize, quantize_dequantize

__all__ = ["dequantize", "get_backend", "quantize", "quantize_dequantize", "set_backend", "torch_builtins"]


def get_backend() -> ModuleType:
    """Return the module that computes affine quantization."""
    return torch_builtins


def set_backend(name: str) -> contextlib.AbstractContextManager[None]:
    """Choose the backend by AIMET's name: "torch_builtins" is the only one, so nothing changes.

    Raises:
        OptionError: If it is another one.
    """
    if name != "torch_builtins":
        raise unknown_option("quantization backend", name, ["torch_builtins"])
    return contextlib.nullcontext()
