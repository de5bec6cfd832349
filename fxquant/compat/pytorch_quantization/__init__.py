"""NVIDIA pytorch-quantization's API (2.2.1): change the import line and keep the code.

Module paths, names, signatures, defaults and quirks are NVIDIA's, and so is every number; the arithmetic is
``fxquant.quantization``.
"""

from fxquant.compat.pytorch_quantization._onnx_export import enable_onnx_export, export_onnx
from fxquant.compat.pytorch_quantization.quant_modules import deactivate, initialize

__version__ = "2.2.1"  # the release whose behaviour this is

__all__ = ["__version__", "deactivate", "enable_onnx_export", "export_onnx", "initialize"]
