"""UnknownModuleError: a module whose quantized class nobody has registered."""

from torch import nn

from fxquant.errors import ModelTypeError
from fxquant.nn.code_example import code_example


class UnknownModuleError(ModelTypeError, RuntimeError):
    """A module whose quantized class nobody has registered; shows how to write one."""

    def __init__(self, module_cls: type[nn.Module], mixin_cls: type) -> None:
        self.module_cls, self.mixin_cls = module_cls, mixin_cls
        name, mixin = module_cls.__name__, mixin_cls.__name__
        super().__init__(
            f"There is no quantized class for {name}.",
            remedy=f"Exclude it with `{mixin}.ignore({name})`, or register a quantized class with "
            f"`@{mixin}.implements({name})`. For example:\n\n{self.generate_code_example()}",
        )

    def generate_code_example(self) -> str:
        """Return Python source of a quantized class for the module, to be filled in."""
        return code_example(self.module_cls, self.mixin_cls)
