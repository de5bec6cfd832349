"""How Qualcomm's HTP quantizes a float input, found by experiment (see ``htp``)."""

import torch


def rounded_to_half(x: torch.Tensor) -> torch.Tensor:
    """Return a model's float input as the HTP reads it, V68 excepted: rounded to float16.

    Quantizing the result, ``clamp(rint(F(x / s)) + z)``, gives the codes of a QuantizeLinear that the HTP
    runs on an input of the model. V68 does not round first, nor does the CPU, which runs it by default.
    """
    return x.half().to(x.dtype)
