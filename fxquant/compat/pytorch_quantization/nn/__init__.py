"""Quantized modules, by NVIDIA's names; every layer also under torch's own name, as ``nn.Conv2d``."""

from fxquant.compat.pytorch_quantization.nn import modules
from fxquant.compat.pytorch_quantization.nn.modules.clip import Clip
from fxquant.compat.pytorch_quantization.nn.modules.quant_conv import *  # noqa: F403  # its __all__ is checked
from fxquant.compat.pytorch_quantization.nn.modules.quant_conv import __all__ as _conv
from fxquant.compat.pytorch_quantization.nn.modules.quant_instancenorm import *  # noqa: F403
from fxquant.compat.pytorch_quantization.nn.modules.quant_instancenorm import __all__ as _instancenorm
from fxquant.compat.pytorch_quantization.nn.modules.quant_linear import *  # noqa: F403
from fxquant.compat.pytorch_quantization.nn.modules.quant_linear import __all__ as _linear
from fxquant.compat.pytorch_quantization.nn.modules.quant_pooling import *  # noqa: F403
from fxquant.compat.pytorch_quantization.nn.modules.quant_pooling import __all__ as _pooling
from fxquant.compat.pytorch_quantization.nn.modules.quant_rnn import *  # noqa: F403
from fxquant.compat.pytorch_quantization.nn.modules.quant_rnn import __all__ as _rnn
from fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer

__all__ = ["Clip", "TensorQuantizer", "modules"]
__all__ += _conv + _instancenorm + _linear + _pooling + _rnn
