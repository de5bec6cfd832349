"""Concat: concatenation as a module, which takes its tensors one by one."""

from typing import Any

import torch

from fxquant.ops.module_form import HOME, ModuleForm


class Concat(ModuleForm):
    """Concatenation of any number of tensors along one dimension."""

    __module__ = HOME
    function = staticmethod(torch.cat)

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, *x: Any) -> torch.Tensor:
        """Return the tensors joined along the axis."""
        return torch.cat(x, dim=self._axis)
