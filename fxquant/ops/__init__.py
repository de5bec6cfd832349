"""The op table: the only place that knows what an op means."""

from fxquant.ops.op import Op, Operand, OutputRange, Returns, Role
from fxquant.ops.table import TABLE, op_named, op_of_function, op_of_method, op_of_module

__all__ = [
    "TABLE",
    "Op",
    "Operand",
    "OutputRange",
    "Returns",
    "Role",
    "op_named",
    "op_of_function",
    "op_of_method",
    "op_of_module",
]
