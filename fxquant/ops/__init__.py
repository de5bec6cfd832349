"""The op table: the only place that knows what an op means."""

from fxquant.ops.concat import Concat
from fxquant.ops.equation import einsum_indices
from fxquant.ops.grouped import GROUPED_MATMUL
from fxquant.ops.layer_form import LINEAR, LayerForm
from fxquant.ops.macs import CallShapes
from fxquant.ops.module_form import ModuleForm, module_form
from fxquant.ops.normalization import GROUP_NORM
from fxquant.ops.op import Op, Operand, OutputRange, Returns, Role, Scaling
from fxquant.ops.table import TABLE, computes_like, op_named, op_of_function, op_of_method, op_of_module
from fxquant.ops.weighted import ADDMM, BADDBMM, EINSUM

__all__ = [
    "ADDMM",
    "BADDBMM",
    "EINSUM",
    "GROUPED_MATMUL",
    "GROUP_NORM",
    "LINEAR",
    "TABLE",
    "CallShapes",
    "Concat",
    "LayerForm",
    "ModuleForm",
    "Op",
    "Operand",
    "OutputRange",
    "Returns",
    "Role",
    "Scaling",
    "computes_like",
    "einsum_indices",
    "module_form",
    "op_named",
    "op_of_function",
    "op_of_method",
    "op_of_module",
]
