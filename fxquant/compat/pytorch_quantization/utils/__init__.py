"""Reductions and logging, by NVIDIA's names."""

from fxquant.compat.pytorch_quantization.utils.reduce_amax import reduce_amax

__all__ = ["reduce_amax"]
