"""The quantized class of every torch.nn module of the op table; ``quantized.pyi`` lists them for readers.

Example:
    >>> from fxquant.nn.quantized import QuantizedReLU
    >>> len(QuantizedReLU().input_quantizers)
    1
"""

from fxquant.nn.generate import quantized_classes
from fxquant.ops import ModuleForm

_CLASSES = quantized_classes(lambda module_class: not issubclass(module_class, ModuleForm), __name__)

__all__ = sorted(_CLASSES)
globals().update(_CLASSES)
