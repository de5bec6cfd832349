"""module_form: the class of modules that do nothing but call one function, such as custom.Add."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

HOME = "fxquant.nn.custom"  # where users find the classes, and where pickles look for them


class ModuleForm(nn.Module):
    """A function as a module, so that its inputs and outputs can have quantizers.

    Attributes:
        function: What forward calls.
    """

    function: ClassVar[Callable[..., Any]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns for the same arguments."""
        return type(self).function(*args, **kwargs)


class AnyFunction(nn.Module):
    """Any function or tensor method as a module, where no class of modules stands for it.

    Args:
        called: A function, or the name of a tensor method; a module, for what stands around it.
    """

    def __init__(self, called: Callable[..., Any] | str) -> None:
        super().__init__()
        self.called = called

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function, or the method of the first argument, returns for the others."""
        if isinstance(self.called, str):
            return getattr(args[0], self.called)(*args[1:], **kwargs)
        return self.called(*args, **kwargs)

    def extra_repr(self) -> str:
        return self.called if isinstance(self.called, str) else getattr(self.called, "__name__", "")


def module_form(name: str, function: Callable[..., Any]) -> type[ModuleForm]:
    """Return the class of that name whose forward takes the arguments of a function, and calls it."""
    written = getattr(function, "__qualname__", name).replace("_", " ").strip()
    members = {
        "function": staticmethod(function),
        "__module__": HOME,
        "__doc__": f"The function {written} as a module; its forward takes the same arguments.",
    }
    return type(name, (ModuleForm,), members)
