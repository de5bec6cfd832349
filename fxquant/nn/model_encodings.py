"""compute_encodings and compute_param_encodings: calibrate all quantized modules of a model."""

import contextlib
from collections.abc import Iterator

from torch import nn

from fxquant.nn.mixin import QuantizationMixin
from fxquant.quantization import QuantizerBase


@contextlib.contextmanager
def compute_encodings(model: nn.Module) -> Iterator[None]:
    """Calibrate the quantizers of a model: those of parameters at once, the others on what runs inside.

    Inside the context the inputs and outputs of quantized modules are observed and not quantized. A quantizer
    outside of any quantized module gives what quantization with the range of each input alone would give.
    """
    quantized = [module for module in model.modules() if isinstance(module, QuantizationMixin)]
    held = {quantizer for module in quantized for quantizer in _quantizers(module)}
    with contextlib.ExitStack() as stack:
        for module in quantized:
            stack.enter_context(module.compute_encodings())
        for quantizer in model.modules():
            if isinstance(quantizer, QuantizerBase) and quantizer not in held:
                stack.enter_context(quantizer.compute_encodings())
        yield


def compute_param_encodings(model: nn.Module) -> None:
    """Calibrate the quantizers of the parameters of all quantized modules of a model."""
    for module in model.modules():
        if isinstance(module, QuantizationMixin):
            module.compute_param_encodings()


def _quantizers(module: QuantizationMixin) -> Iterator[nn.Module]:
    for room in (module.input_quantizers, module.output_quantizers, module.param_quantizers):
        yield from room.children()
