"""Op: one row of the op table, everything fxquant knows about an operation."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn

from fxquant.errors import OptionError
from fxquant.ops.layer_form import LayerForm
from fxquant.ops.macs import Macs
from fxquant.ops.product_form import ProductForm


class Role(Enum):
    """What an operand is to its op."""

    ACTIVATION = "activation"
    WEIGHT = "weight"
    BIAS = "bias"
    INDEX = "index"  # integers that choose, such as token ids: never quantized


class OutputRange(Enum):
    """Where the range of an op's output comes from."""

    OWN = "own"  # measured
    LIKE_INPUT = "like_input"  # the op moves or picks values: its output lies on the grid of its input
    SHARED = "shared"  # the op joins tensors: inputs and output can lie on one grid
    FIXED = "fixed"  # known from the formula, such as [0, 1]
    FLOAT = "float"  # not a quantity to quantize: a shape, an index


class Scaling(Enum):
    """What becomes of an op's output when elements of its inputs are scaled by positive factors."""

    UNKNOWN = "unknown"  # but for an op that moves or picks values, whose output tells
    EACH = "each"  # each element of the output is scaled as that of the first input
    SUM = "sum"  # as those of the inputs, if they are scaled alike
    PRODUCT = "product"  # as those of one input, if the other stays
    AVERAGE = "average"  # a fixed weighted sum of elements, if they are scaled alike


class Returns(Enum):
    """What kind of value a call of the op gives."""

    TENSOR = "tensor"
    TUPLE = "tuple"  # several tensors, taken apart by getitem
    VALUE = "value"  # a number or a shape


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One tensor operand.

    Attributes:
        name: Keyword of the functional form, and attribute name where the module form holds it.
        index: Position in the functional form.
        aliases: Other keywords that some forms use for it.
        role: What the operand is to the op.
        channel_axis: Axis of a constant operand that keeps a scale per channel; None for one scale.
    """

    name: str
    index: int
    aliases: tuple[str, ...] = ()
    role: Role = Role.ACTIVATION
    channel_axis: int | None = None


@dataclass(frozen=True, kw_only=True)
class Op:
    """One row of the op table.

    Attributes:
        name: Name of the op in fxquant, such as "conv2d".
        modules: Module classes that compute it, torch's and those of ``module_form``; subclasses count.
        functions: Functions that compute it, or qualified names of functions of packages not imported here.
        methods: Tensor methods that compute it; an in-place method has a trailing underscore.
        operands: Tensor operands in order of position.
        is_variadic: Whether the first operand is a list of tensors.
        output: Where the range of the output comes from.
        fixed_range: The range, as (min, max), of a FIXED output.
        returns: What kind of value a call gives.
        may_take_apart: Whether a call may pick one of several tensors, whose ranges have nothing in common.
        keeps_values: Whether the output holds the values of the input, each as often: in another shape or
            order alone.
        moves_dims: Whether the op gives its input with the dimensions in another order.
        sorts: Names of the arguments of an op that sorts, in order; empty for any other op.
        is_flatten: Whether a call with start dimension 1 gives a matrix, whatever its input.
        scaling: What becomes of the output when inputs are scaled.
        is_identity_above_zero: Whether it returns what is positive unchanged, element by element.
        unclipped: What the op is without its upper end; None for an op that has none.
        is_cast: Whether a call gives its input in another type.
        is_random: Whether a call draws random numbers.
        is_noop_in_eval: Whether the op returns its input unchanged outside training.
        has_quantized_modules: Whether its modules have a quantized class.
        has_written_modules: Whether those classes are written by hand, rather than made from the row.
        layer: How a call of a function on constant parameters is written as a layer; None for never.
        product: How a layer of the row is written as products of matrices; None for one that is none.
        scaled_axis: Axis, from the end, along which a layer of the row multiplies what it gives by its
            ``weight`` and then adds its ``bias``, one number each; None for an op that does neither.
        macs: Counts the multiply-accumulates of a call; None for an op that takes next to none.
        gate: Functions that, one after the other, give what the op multiplies its input with; empty for an
            op that is no such product.
        channel_axis: Axis of its input and output that holds channels; None where that depends on the call.
        in_place: Writes what one of its modules computes into the module's input, given both; None where
            torch has no such function.
        onnx: Name of the ONNX op it becomes, as documentation; several where it depends on the arguments.
    """

    name: str
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any] | str, ...] = ()
    methods: tuple[str, ...] = ()
    operands: tuple[Operand, ...] = (Operand(name="input", index=0),)
    is_variadic: bool = False
    output: OutputRange = OutputRange.OWN
    fixed_range: tuple[float, float] | None = None
    returns: Returns = Returns.TENSOR
    may_take_apart: bool = False
    keeps_values: bool = False
    moves_dims: bool = False
    sorts: tuple[str, ...] = ()
    is_flatten: bool = False
    scaling: Scaling = Scaling.UNKNOWN
    is_identity_above_zero: bool = False
    unclipped: Callable[[torch.Tensor], torch.Tensor] | None = None
    is_cast: bool = False
    is_random: bool = False
    is_noop_in_eval: bool = False
    has_quantized_modules: bool = True
    has_written_modules: bool = False
    layer: LayerForm | None = None
    product: ProductForm | None = None
    scaled_axis: int | None = None
    macs: Macs | None = None
    gate: tuple[Callable[..., Any], ...] = ()
    channel_axis: int | None = None
    in_place: Callable[[Any, torch.Tensor], torch.Tensor] | None = None
    onnx: str = ""

    def __post_init__(self) -> None:
        if (self.output is OutputRange.FIXED) != (self.fixed_range is not None):
            raise OptionError(f"Op '{self.name}' needs a fixed range exactly when its output is FIXED.")

    @property
    def activations(self) -> tuple[Operand, ...]:
        """The operands that are activations."""
        return tuple(operand for operand in self.operands if operand.role is Role.ACTIVATION)

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """The operands that a module form takes as inputs: all but weights and biases, its attributes."""
        return tuple(o for o in self.operands if o.role in (Role.ACTIVATION, Role.INDEX))

    @property
    def weight(self) -> Operand | None:
        """The weight operand; None for an op without one."""
        return next((operand for operand in self.operands if operand.role is Role.WEIGHT), None)

    @property
    def bias(self) -> Operand | None:
        """The bias operand; None for an op without one."""
        return next((operand for operand in self.operands if operand.role is Role.BIAS), None)


def operands(*names: str) -> tuple[Operand, ...]:
    """Return activation operands at consecutive positions."""
    return tuple(Operand(name=name, index=index) for index, name in enumerate(names))


def weighted(weight_axis: int) -> tuple[Operand, ...]:
    """Return the operands (input, weight, bias) with the weight's channel axis."""
    return (
        Operand(name="input", index=0),
        Operand(name="weight", index=1, role=Role.WEIGHT, channel_axis=weight_axis),
        Operand(name="bias", index=2, role=Role.BIAS),
    )
