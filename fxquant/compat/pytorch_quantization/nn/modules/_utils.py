"""The mixins that make a layer quantized, ours and a user's alike.

A layer of your own derives from torch's layer and a mixin, takes its descriptors out of the keyword
arguments, and has the mixin make its quantizers:

>>> import torch
>>> from fxquant.compat.pytorch_quantization.nn.modules import _utils
>>> class QuantBilinear(torch.nn.Bilinear, _utils.QuantMixin):
...     def __init__(self, in1_features, in2_features, out_features, bias=True, **kwargs):
...         super().__init__(in1_features, in2_features, out_features, bias)
...         self.init_quantizer(*_utils.pop_quant_desc_in_kwargs(self.__class__, **kwargs))
...
...     def forward(self, a, b):
...         weight = self._weight_quantizer(self.weight)
...         return torch.nn.functional.bilinear(self._input_quantizer(a), b, weight, self.bias)
>>> QuantBilinear(2, 3, 4).weight_quantizer.num_bits
8
"""

import copy
import sys
from typing import Any

from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QUANT_DESC_8BIT_PER_TENSOR, QuantDescriptor
from fxquant.errors import OptionError, OptionTypeError


class _InputMixin:
    """What both mixins know of the input."""

    default_quant_desc_input: QuantDescriptor = QUANT_DESC_8BIT_PER_TENSOR
    _input_quantizer: TensorQuantizer

    @classmethod
    def set_default_quant_desc_input(cls, value: QuantDescriptor) -> None:
        """Set how the input of layers of this class, made from now on, is quantized unless told.

        Raises:
            OptionError: If it is no descriptor.
        """
        cls.default_quant_desc_input = _copied(value)

    @property
    def input_quantizer(self) -> TensorQuantizer:
        """The quantizer of the input."""
        return self._input_quantizer


class QuantInputMixin(_InputMixin):
    """Makes a layer whose input alone is quantized; put it after torch's class."""

    def init_quantizer(self, quant_desc_input: QuantDescriptor) -> None:
        """Make the quantizer of the input. For ``__init__``, after torch's.

        Raises:
            OptionTypeError: If called from elsewhere: it would replace a quantizer that is in use.
            OptionError: If the descriptor asks for codes instead of fake quantization.
        """
        _check_init(sys._getframe(1).f_code.co_name, quant_desc_input)
        self._input_quantizer = TensorQuantizer(quant_desc_input)


class QuantMixin(_InputMixin):
    """Makes a layer whose input and weight are quantized; put it after torch's class."""

    default_quant_desc_weight: QuantDescriptor = QUANT_DESC_8BIT_PER_TENSOR
    _weight_quantizer: TensorQuantizer
    _input_quantizers: nn.ModuleList
    _weight_quantizers: nn.ModuleList

    @classmethod
    def set_default_quant_desc_weight(cls, value: QuantDescriptor) -> None:
        """Set how the weight of layers of this class, made from now on, is quantized unless told.

        Raises:
            OptionError: If it is no descriptor.
        """
        cls.default_quant_desc_weight = _copied(value)

    @property
    def weight_quantizer(self) -> TensorQuantizer:
        """The quantizer of the weight."""
        return self._weight_quantizer

    def init_quantizer(
        self,
        quant_desc_input: QuantDescriptor,
        quant_desc_weight: QuantDescriptor,
        num_layers: int | None = None,
    ) -> None:
        """Make the quantizers of input and weight. For ``__init__``, after torch's.

        Args:
            quant_desc_input: How to quantize the input.
            quant_desc_weight: How to quantize the weight.
            num_layers: How many of each to make, in the lists ``_input_quantizers`` and
                ``_weight_quantizers``; None for one, not in a list.

        Raises:
            OptionTypeError: If called from elsewhere: it would replace quantizers that are in use.
            OptionError: If a descriptor asks for codes instead of fake quantization.
        """
        _check_init(sys._getframe(1).f_code.co_name, quant_desc_input, quant_desc_weight)
        if num_layers is None:
            self._input_quantizer = TensorQuantizer(quant_desc_input)
            self._weight_quantizer = TensorQuantizer(quant_desc_weight)
        else:
            self._input_quantizers = _quantizers(quant_desc_input, num_layers)
            self._weight_quantizers = _quantizers(quant_desc_weight, num_layers)


def pop_quant_desc_in_kwargs(quant_cls: type[Any], input_only: bool = False, **kwargs: Any) -> Any:
    """Return the descriptors among a layer's keyword arguments, or the defaults of its class.

    Args:
        quant_cls: Class of the layer.
        input_only: Whether the layer has no quantized weight.
        **kwargs: quant_desc_input and quant_desc_weight; None is as good as absent.

    Returns:
        The descriptors of input and weight; with input_only, that of the input alone.

    Raises:
        OptionTypeError: If there are other arguments.
    """
    quant_desc_input = kwargs.pop("quant_desc_input", None) or quant_cls.default_quant_desc_input
    quant_desc_weight = None
    if not input_only:
        quant_desc_weight = kwargs.pop("quant_desc_weight", None) or quant_cls.default_quant_desc_weight
    if kwargs:
        raise OptionTypeError(f"Unused keys: {', '.join(sorted(kwargs))}.")
    return quant_desc_input if input_only else (quant_desc_input, quant_desc_weight)


def _check_init(caller: str, *descriptors: QuantDescriptor) -> None:
    if caller != "__init__":
        raise OptionTypeError(
            f"init_quantizer should be called by the __init__ of a quantized module only, not by {caller}."
        )
    if not all(descriptor.fake_quant for descriptor in descriptors):
        raise OptionError("Only fake quantization is supported!")


def _quantizers(descriptor: QuantDescriptor, count: int) -> nn.ModuleList:
    return nn.ModuleList(TensorQuantizer(descriptor) for _ in range(count))


def _copied(value: QuantDescriptor) -> QuantDescriptor:
    if not isinstance(value, QuantDescriptor):
        raise OptionError(f"{value} is not an instance of QuantDescriptor.")
    return copy.deepcopy(value)
