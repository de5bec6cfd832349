"""overwritten: a module's result in the memory of its operand, where nobody else can see that memory.

On a CPU a fresh tensor of some megabytes costs a page fault per 4 KiB: more than division, rounding, clamping
and product together. In a graph the operand often dies with the call. That it does is known to the generated
code; that nobody holds it besides, such as a hook that keeps outputs, a view, or numpy, is proved at each
call by counting who does.
"""

import sys
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from fxquant.nn import QuantizationMixin
from fxquant.ops import TABLE
from fxquant.quantization.affine import FrozenQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.base import QuantizerBase
from fxquant.quantization.blocks import is_dense
from fxquant.quantization.gradients import is_jit_traced, is_watched, needs_gradient

_IN_PLACE = {module: op.in_place for op in TABLE if op.in_place is not None for module in op.modules}
_QUANTIZERS = {QuantizeDequantize, FrozenQuantizeDequantize}  # a subclass may do something else
_SMALLEST = 1 << 14  # elements: below, a fresh tensor costs less than the proof


def overwritten(module: nn.Module, operand: list[Any]) -> Any:
    """Call a module on an operand that the caller does not need any more.

    Args:
        module: A quantizer gets the chance to write into the operand; any other module is called.
        operand: A list that begins with the operand: the only reference to it that the caller has.

    Returns:
        What the module makes of it, to the last bit.
    """
    may_write = can_overwrite(module) and is_inference(module, operand[0]) and operand[0].numel() >= _SMALLEST
    is_own = may_write and _holders(operand) in _ALONE and is_dense(operand[0])
    if is_own and operand[0].untyped_storage().resizable() and _overwrite(module, operand[0]):
        return operand[0]
    return module(operand.pop(0))


def can_overwrite(module: nn.Module) -> bool:
    """Whether a module may be able to write its result into its operand, and does no more than its op."""
    if isinstance(module, QuantizationMixin):
        quantizers = *module.input_quantizers, *module.output_quantizers
        is_bare = module.get_kernel() is None and all(quantizer is None for quantizer in quantizers)
        return is_bare and module.original_class in _IN_PLACE
    return type(module) in _QUANTIZERS or type(module) in _IN_PLACE


def settled(quantizer: Any, tensor: Any) -> Any:
    """Call a quantizer on values that it has quantized already; they are returned as they are.

    Quantizing twice gives what quantizing once does, as long as nobody asks for a gradient.
    """
    is_known = type(quantizer) in _QUANTIZERS and is_inference(quantizer, tensor)
    if is_known and quantizer.keeps(tensor):
        return tensor
    return quantizer(tensor)


def is_inference(module: nn.Module, tensor: object) -> bool:
    """Whether a call is plain inference on a CPU: no gradient, no hook, no tracer, no tensor subclass."""
    if torch.compiler.is_compiling() or type(tensor) is not torch.Tensor or needs_gradient(tensor):
        return False
    own = module._forward_hooks, module._forward_pre_hooks, "forward" in vars(module)
    hooks = *own, torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks
    if any(hooks) or is_jit_traced() or is_watched():
        return False
    is_transformed = bool(torch._C._functorch.peek_interpreter_stack())
    if is_transformed or torch.onnx.is_in_onnx_export():
        return False
    may_write = torch.is_inference_mode_enabled() or not tensor.is_inference()
    return may_write and tensor.device.type == "cpu" and tensor.is_floating_point()


def _overwrite(module: nn.Module, tensor: torch.Tensor) -> bool:
    """Write a module's result into its operand; return whether that was done."""
    if isinstance(module, QuantizerBase):
        return module.overwrite(tensor)
    kind = module.original_class if isinstance(module, QuantizationMixin) else type(module)
    _IN_PLACE[kind](module, tensor)
    return True


def _holders(operand: list[Any]) -> tuple[int, ...]:
    """Return how often the first of a list is held, as an object and as a tensor; its memory; its base."""
    tensor = operand[0]
    memory, base = tensor.untyped_storage(), tensor._base  # of a view, what it was made of
    held = sys.getrefcount(memory), torch._C._storage_Use_Count(memory._cdata)
    own = sys.getrefcount(tensor), tensor._use_count(), *held
    return own if base is None else (*own, sys.getrefcount(base), base._use_count())


_ALONE = {_holders([torch.empty(1)]), _holders([torch.empty(1).view(1, 1)])}  # Python versions differ
