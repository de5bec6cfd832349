"""Runtimes: what can execute an exported file here."""

from fxquant.runtimes.onnxruntime import OnnxRuntime

__all__ = ["OnnxRuntime"]
