"""Rows of elementwise arithmetic on one tensor or two."""

import operator
from typing import Any

import torch

from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, Operand, OutputRange, Scaling, operands

_BINARY = operands("input", "other")
_ADDED = (Operand(name="input", index=0, aliases=("x",)), Operand(name="other", index=1, aliases=("y",)))
_RAISED = (Operand(name="input", index=0, aliases=("x",)), Operand(name="exponent", index=1, aliases=("y",)))


def _sum(x: Any, y: Any) -> Any:
    return torch.add(x, y) if isinstance(x, torch.Tensor) else x + y


def _product(x: Any, y: Any) -> Any:
    return torch.mul(x, y) if isinstance(x, torch.Tensor) else x * y


def _power(x: Any, y: Any) -> Any:
    return torch.pow(x, y) if isinstance(x, torch.Tensor) else x**y


ELEMENTWISE = (
    Op(
        name="add",
        modules=(module_form("Add", _sum),),
        functions=(operator.add, operator.iadd, torch.add),
        methods=("add", "add_", "__add__", "__radd__", "__iadd__"),
        operands=_ADDED,
        scaling=Scaling.SUM,
        onnx="Add",
    ),
    Op(
        name="sub",
        modules=(module_form("Subtract", torch.sub),),
        functions=(operator.sub, operator.isub, torch.sub, torch.subtract, torch.rsub),
        methods=("sub", "sub_"),
        operands=_BINARY,
        scaling=Scaling.SUM,
        onnx="Sub",
    ),
    Op(
        name="mul",
        modules=(module_form("Multiply", _product),),
        functions=(operator.mul, operator.imul, torch.mul, torch.multiply),
        methods=("mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__"),
        operands=_ADDED,
        scaling=Scaling.PRODUCT,
        onnx="Mul",
    ),
    Op(
        name="div",
        modules=(module_form("Divide", torch.div),),
        functions=(operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide),
        methods=("div", "div_", "divide"),
        operands=_BINARY,
        onnx="Div",
    ),
    Op(
        name="floor_div",
        modules=(module_form("FloorDivide", torch.floor_divide),),
        functions=(torch.floor_divide,),
        operands=_BINARY,
        onnx="Div, Floor",
    ),
    Op(
        name="remainder",
        modules=(module_form("Remainder", torch.remainder),),
        functions=(torch.remainder,),
        operands=_BINARY,
        onnx="Mod",
    ),
    Op(
        name="fmod",
        modules=(module_form("Fmod", torch.fmod),),
        functions=(torch.fmod,),
        operands=_BINARY,
        onnx="Mod",
    ),
    Op(
        name="pow",
        modules=(module_form("Pow", _power),),
        functions=(operator.pow, torch.pow),
        methods=("pow",),
        operands=_RAISED,
        onnx="Pow",
    ),
    Op(
        name="maximum",
        modules=(module_form("Maximum", torch.maximum),),
        functions=(torch.maximum,),
        methods=("maximum",),
        operands=_BINARY,
        scaling=Scaling.SUM,
        onnx="Max",
    ),
    Op(
        name="minimum",
        modules=(module_form("Minimum", torch.minimum),),
        functions=(torch.minimum,),
        methods=("minimum",),
        operands=_BINARY,
        scaling=Scaling.SUM,
        onnx="Min",
    ),
    *(
        Op(
            name=function.__name__,
            modules=(module_form(form, function),),
            functions=(function,),
            methods=(function.__name__,),
            operands=operands("input", "other")[:inputs],
            output=OutputRange.FLOAT,  # true or false
            onnx=onnx,
        )
        for form, function, inputs, onnx in (
            ("LogicalOr", torch.logical_or, 2, "Or"),
            ("LogicalAnd", torch.logical_and, 2, "And"),
            ("LogicalNot", torch.logical_not, 1, "Not"),
        )
    ),
    *(
        Op(
            name=function.__name__,
            modules=(module_form(form, function),),
            functions=(function,),
            methods=(function.__name__, f"{function.__name__}_"),
            onnx=onnx,
        )
        for form, function, onnx in (
            ("Sin", torch.sin, "Sin"),
            ("Cos", torch.cos, "Cos"),
            ("Asin", torch.asin, "Asin"),
            ("Atan", torch.atan, "Atan"),
            ("Exponential", torch.exp, "Exp"),
            ("Log", torch.log, "Log"),
            ("Erf", torch.erf, "Erf"),
            ("Sqrt", torch.sqrt, "Sqrt"),
            ("RSqrt", torch.rsqrt, "Sqrt, Reciprocal"),
            ("Square", torch.square, "Mul"),
            ("Abs", torch.abs, "Abs"),
            ("Neg", torch.neg, "Neg"),
            ("ElementwiseCeil", torch.ceil, "Ceil"),
            ("ElementwiseFloor", torch.floor, "Floor"),
            ("Round", torch.round, "Round"),
        )
    ),
)
