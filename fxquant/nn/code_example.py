"""code_example: Python source that shows how to register a quantized class for a module of one's own."""

import inspect
from inspect import Parameter

import torch
from torch import nn

_BY_NAME = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def code_example(module_cls: type[nn.Module], mixin_cls: type) -> str:
    """Return the source of a quantized class, with TODOs where only the author knows."""
    signature = inspect.signature(module_cls.forward)
    _, *arguments = signature.parameters.values()
    is_simple = all(argument.kind in _BY_NAME for argument in arguments)
    returns_tensor = signature.return_annotation in (Parameter.empty, torch.Tensor)
    names = [argument.name for argument in arguments]
    count = f"[{', '.join(['None'] * len(names))}]" if is_simple else "[]  # TODO: one None per input"
    outputs = "[None]" if returns_tensor else "[]  # TODO: one None per output"
    declared = [str(argument.replace(annotation=Parameter.empty)) for argument in arguments]
    lines = [
        f"@{mixin_cls.__name__}.implements({module_cls.__name__})",
        f"class Quantized{module_cls.__name__}({mixin_cls.__name__}, {module_cls.__name__}):",
        "    def __quant_init__(self):",
        "        super().__quant_init__()",
        f"        self.input_quantizers = torch.nn.ModuleList({count}",
        "        )" if not is_simple else "",
        f"        self.output_quantizers = torch.nn.ModuleList({outputs}",
        "        )" if not returns_tensor else "",
        "",
        f"    def forward({', '.join(['self', *declared])}):",
    ]
    lines[4] += ")" if is_simple else ""
    lines[6] += ")" if returns_tensor else ""
    for index, name in enumerate(names if is_simple else []):
        lines += [
            f"        if self.input_quantizers[{index}]:",
            f"            {name} = self.input_quantizers[{index}]({name})",
        ]
    lines += [] if is_simple else ["        # TODO: quantize the inputs"]
    lines += [
        "        with self._patch_quantized_parameters():",
        f"            output = super().forward({', '.join(_passed(argument) for argument in arguments)})",
    ]
    if returns_tensor:
        lines += [
            "        if self.output_quantizers[0]:",
            "            output = self.output_quantizers[0](output)",
        ]
    else:
        lines += ["        # TODO: quantize the outputs"]
    return "\n".join(line for line in [*lines, "        return output"] if line.strip() or line == "")


def _passed(argument: Parameter) -> str:
    """Return how forward hands an argument on."""
    if argument.kind is Parameter.VAR_POSITIONAL:
        return f"*{argument.name}"
    if argument.kind is Parameter.VAR_KEYWORD:
        return f"**{argument.name}"
    return f"{argument.name}={argument.name}" if argument.kind is Parameter.KEYWORD_ONLY else argument.name
