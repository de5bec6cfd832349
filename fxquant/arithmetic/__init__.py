"""Arithmetics: how a runtime's kernels round."""

from fxquant.arithmetic.htp import Generation, htp_multiplier, requantize_htp, requantize_htp_vector
from fxquant.arithmetic.htp_bias import dropped_by_shift, kept_bias
from fxquant.arithmetic.htp_input import rounded_to_half
from fxquant.arithmetic.htp_sum import sum_htp

__all__ = [
    "Generation",
    "dropped_by_shift",
    "htp_multiplier",
    "kept_bias",
    "requantize_htp",
    "requantize_htp_vector",
    "rounded_to_half",
    "sum_htp",
]
