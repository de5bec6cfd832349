"""Linear layer with a quantized input and a quantized weight; the bias is not quantized."""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.compat.pytorch_quantization import tensor_quant
from fxquant.compat.pytorch_quantization.nn.modules._quantized_layer import QuantizedWeightLayer

__all__ = ["Linear", "QuantLinear"]


class QuantLinear(QuantizedWeightLayer, nn.Linear):
    """``torch.nn.Linear`` on a quantized input and weight [out, in], one amax per out."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch's name
        """Return the product of the quantized input [..., in] and the quantized weight: [..., out]."""
        return F.linear(self._input_quantizer(input), self._weight_quantizer(self.weight), self.bias)


Linear = QuantLinear
