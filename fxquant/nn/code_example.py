"""code_example: Python source that shows how to register a quantized class for a module of one's own."""

import inspect
from inspect import Parameter

import torch
from torch import nn

_BY_NAME = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def code_example(module_cls: type[nn.Module], mixin_cls: type) -> str:
    """Return the source of a quantized class; a comment stands where only the author knows what to write."""
    signature = inspect.signature(module_cls.forward)
    _, *arguments = signature.parameters.values()
    is_simple = all(argument.kind in _BY_NAME for argument in arguments)
    names = [argument.name for argument in arguments] if is_simple else []
    returns_tensor = signature.return_annotation in (Parameter.empty, torch.Tensor)
    declared = [str(argument.replace(annotation=Parameter.empty)) for argument in arguments]
    passed = ", ".join(_passed(argument) for argument in arguments)
    end = _quantized("output", 0, "output") if returns_tensor else ["        # quantize the outputs here"]
    return "\n".join(
        [
            f"@{mixin_cls.__name__}.implements({module_cls.__name__})",
            f"class Quantized{module_cls.__name__}({mixin_cls.__name__}, {module_cls.__name__}):",
            "    def __quant_init__(self):",
            "        super().__quant_init__()",
            _room("input", len(names), is_simple),
            _room("output", 1 if returns_tensor else 0, returns_tensor),
            "",
            f"    def forward({', '.join(['self', *declared])}):",
            *(line for index, name in enumerate(names) for line in _quantized("input", index, name)),
            *([] if is_simple else ["        # quantize the inputs here"]),
            "        with self._patch_quantized_parameters():",
            f"            output = super().forward({passed})",
            *end,
            "        return output",
        ]
    )


def _room(side: str, count: int, is_known: bool) -> str:
    """Return the line that makes a list of quantizers."""
    line = f"        self.{side}_quantizers = torch.nn.ModuleList([{', '.join(['None'] * count)}])"
    return line if is_known else f"{line}  # one None for each {side}"


def _quantized(side: str, index: int, name: str) -> list[str]:
    """Return the lines that quantize a variable."""
    quantizer = f"self.{side}_quantizers[{index}]"
    return [f"        if {quantizer}:", f"            {name} = {quantizer}({name})"]


def _passed(argument: Parameter) -> str:
    """Return how forward hands an argument on."""
    if argument.kind is Parameter.VAR_POSITIONAL:
        return f"*{argument.name}"
    if argument.kind is Parameter.VAR_KEYWORD:
        return f"**{argument.name}"
    return f"{argument.name}={argument.name}" if argument.kind is Parameter.KEYWORD_ONLY else argument.name
