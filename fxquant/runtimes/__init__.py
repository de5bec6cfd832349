"""Runtimes: what can execute an exported file here."""

from fxquant.runtimes.htp import Htp
from fxquant.runtimes.htp_context import ContextFiles, export_context
from fxquant.runtimes.in_memory import CodeSite, code_sites, input_sizes
from fxquant.runtimes.onnxruntime import ExactOnnxRuntime, OnnxRuntime
from fxquant.runtimes.openvino import OpenVino
from fxquant.runtimes.runtime import Arrays, Fallback, FloatOp, Runtime, float_islands
from fxquant.runtimes.soc import SOCS, Soc, get_soc
from fxquant.runtimes.table import RUNTIMES, get_runtime, open_file

__all__ = [
    "RUNTIMES",
    "SOCS",
    "Arrays",
    "CodeSite",
    "ContextFiles",
    "ExactOnnxRuntime",
    "Fallback",
    "FloatOp",
    "Htp",
    "OnnxRuntime",
    "OpenVino",
    "Runtime",
    "Soc",
    "code_sites",
    "export_context",
    "float_islands",
    "get_runtime",
    "get_soc",
    "input_sizes",
    "open_file",
]
