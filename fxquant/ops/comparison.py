"""Rows of comparisons and of what works on booleans: nothing of theirs is quantized."""

import operator

import torch

from fxquant.ops.op import Op, Operand, OutputRange, Role, operands

_COMPARISONS = (
    ("equal_to", operator.eq, torch.eq, ("eq", "__eq__"), "Equal"),
    ("not_equal_to", operator.ne, torch.ne, ("ne", "__ne__"), "Equal, Not"),
    ("less", operator.lt, torch.lt, ("lt", "less", "__lt__"), "Less"),
    ("less_equal", operator.le, torch.le, ("le", "less_equal", "__le__"), "LessOrEqual"),
    ("greater", operator.gt, torch.gt, ("gt", "greater", "__gt__"), "Greater"),
    ("greater_equal", operator.ge, torch.ge, ("ge", "greater_equal", "__ge__"), "GreaterOrEqual"),
    ("bitwise_and", operator.and_, torch.bitwise_and, ("bitwise_and", "__and__"), "And"),
    ("bitwise_or", operator.or_, torch.bitwise_or, ("bitwise_or", "__or__"), "Or"),
    ("bitwise_xor", operator.xor, torch.bitwise_xor, ("bitwise_xor", "__xor__"), "Xor"),
)
_TESTS = ("isnan", "isinf", "isfinite", "any", "all", "bitwise_not")
_CHOSEN = (
    Operand(name="condition", index=0, role=Role.INDEX),
    Operand(name="input", index=1),
    Operand(name="other", index=2),
)

COMPARISON = (
    *(
        Op(
            name=name,
            functions=(infix, function),
            methods=methods,
            operands=operands("input", "other"),
            output=OutputRange.FLOAT,  # true or false
            onnx=onnx,
        )
        for name, infix, function, methods, onnx in _COMPARISONS
    ),
    *(
        Op(
            name=name,
            functions=(getattr(torch, name), *((operator.invert,) if name == "bitwise_not" else ())),
            methods=(name,),
            output=OutputRange.FLOAT,  # true or false
        )
        for name in _TESTS
    ),
    Op(name="where", functions=(torch.where,), operands=_CHOSEN, onnx="Where"),
)
