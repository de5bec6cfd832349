"""Other libraries' APIs as thin faces on fxquant, for code written for them; fxquant imports none."""

from fxquant.compat.stand_in import StandIn, stand_in_for_pytorch_quantization

__all__ = ["StandIn", "stand_in_for_pytorch_quantization"]
