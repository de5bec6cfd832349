"""Custom modules that are one function: those of the op table, and those that are never quantized.

``forms.pyi`` lists them for readers.
"""

from typing import Any

import torch
from torch.nn import functional as F

from fxquant.ops import TABLE, ModuleForm, module_form


def _size(tensor: torch.Tensor, *dim: int) -> Any:
    return tensor.size(*dim)


_FLOAT_ONLY = (
    module_form("Where", torch.where),
    module_form("Greater", torch.gt),
    module_form("GreaterEqual", torch.ge),
    module_form("Less", torch.lt),
    module_form("LessEqual", torch.le),
    module_form("Equal", torch.eq),
    module_form("NotEqual", torch.ne),
    module_form("NonZero", torch.nonzero),
    module_form("TopK", torch.topk),
    module_form("Shape", _size),
    module_form("ElementwiseUnarySign", torch.sign),
    module_form("ScaledDotProductAttention", F.scaled_dot_product_attention),
)
_CLASSES = {
    form.__name__: form
    for form in (*_FLOAT_ONLY, *(form for op in TABLE for form in op.modules))
    if issubclass(form, ModuleForm) and form.forward is ModuleForm.forward
}

__all__ = sorted(_CLASSES)
globals().update(_CLASSES)
