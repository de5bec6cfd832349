"""KernelCall: a call computed as a runtime's kernel does, between the quantizers of its inputs and output."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fxquant.arithmetic.call import Call, Formula, Kept
from fxquant.arithmetic.levels import Leveled
from fxquant.ops.module_form import AnyFunction
from fxquant.quantization import QuantizerBase

_CALLED = "called."  # what a KernelCall holds its module under


class KernelCall(AnyFunction):
    """A call that takes real values on grids, and gives real values on the grid of its output.

    The quantizer behind it finds exactly the codes that the kernel would store. Gradients do not flow.

    Args:
        called: The module, function or name of a tensor method that is called.
        formula: What the kernel computes.
        inputs: The quantizers of its inputs, in order; they stay where they are in the model.
        output: The quantizer of its output; None for a kernel that hands out real values.
        target: What the graph called before: a path, a function, or the name of a method.
    """

    def __init__(
        self,
        called: nn.Module | Callable[..., Any] | str,
        formula: Formula,
        inputs: tuple[QuantizerBase, ...],
        output: QuantizerBase | None,
        target: Any,
    ) -> None:
        super().__init__(called)
        self.formula, self.target = formula, target
        self._quantizers = inputs, output  # in a tuple, so that the model holds each once
        self._kept = Kept()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the real values of the output's codes, in the float type of the first input."""
        quantizers, behind = self._quantizers
        count = len(quantizers)
        encodings: Any = [quantizer.get_encodings() for quantizer in quantizers]
        inputs = zip(args, encodings, strict=False)
        output: Any = None if behind is None else behind.get_encodings()
        call = Call(called=self.called, args=args[count:], kwargs=kwargs, kept=self._kept)
        with torch.no_grad():
            leveled = tuple(Leveled(real=real, encoding=encoding) for real, encoding in inputs)
            result = self.formula(call, leveled, output)
            real = result if output is None else result.mul_(output.scale)
        return real.to(args[0].dtype)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state of what is called, under the names that it has without the kernel."""
        held = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        for key in [key for key in held if key.startswith(f"{prefix}{_CALLED}")]:
            held[f"{prefix}{key.removeprefix(f'{prefix}{_CALLED}')}"] = held.pop(key)
        return held

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f"{prefix}{_CALLED}{key.removeprefix(prefix)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
