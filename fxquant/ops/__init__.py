"""The op table: the only place that knows what an op means."""

from fxquant.ops.concat import Concat
from fxquant.ops.macs import CallShapes
from fxquant.ops.module_form import ModuleForm, module_form
from fxquant.ops.op import Op, Operand, OutputRange, Returns, Role
from fxquant.ops.table import TABLE, computes_like, op_named, op_of_function, op_of_method, op_of_module

__all__ = [
    "TABLE",
    "CallShapes",
    "Concat",
    "ModuleForm",
    "Op",
    "Operand",
    "OutputRange",
    "Returns",
    "Role",
    "computes_like",
    "module_form",
    "op_named",
    "op_of_function",
    "op_of_method",
    "op_of_module",
]
