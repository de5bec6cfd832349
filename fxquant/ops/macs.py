"""Multiply-accumulates of one call, from the shapes of what it reads and gives."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fxquant.ops.equation import einsum_indices

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CallShapes:
    """The shapes around one call.

    Attributes:
        operands: Shape of each tensor operand, by its name in the op's row.
        output: Shape of the output.
        parameters: Shapes of the parameters that the module form holds.
        equation: What an einsum is given.
    """

    operands: Mapping[str, Shape]
    output: Shape
    parameters: tuple[Shape, ...] = ()
    equation: str = ""


Macs = Callable[[CallShapes], int]


def convolution(call: CallShapes) -> int:
    """Each output element sums over one filter: weight [out, in / groups, *kernel]."""
    return math.prod(call.output) * math.prod(call.operands["weight"][1:])


def transposed_convolution(call: CallShapes) -> int:
    """Each input element is multiplied into one filter: weight [in, out / groups, *kernel]."""
    return math.prod(call.operands["input"]) * math.prod(call.operands["weight"][1:])


def linear(call: CallShapes) -> int:
    """Each output element sums over one row: weight [out, in]."""
    return math.prod(call.output) * call.operands["weight"][-1]


def product(first: str) -> Macs:
    """Each output element of a matrix product sums over the last axis of the first matrix."""

    def macs(call: CallShapes) -> int:
        return math.prod(call.output) * call.operands[first][-1]

    return macs


def attention(call: CallShapes) -> int:
    """Two products: query [.., L, E] with key [.., S, E], and weights [.., L, S] with value [.., S, V]."""
    scores = math.prod(call.operands["query"]) * call.operands["key"][-2]
    return scores + math.prod(call.output) * call.operands["key"][-2]


def bilinear(call: CallShapes) -> int:
    """Each output element sums over all pairs: weight [out, in1, in2]."""
    return math.prod(call.output) * math.prod(call.operands["weight"][1:])


def einsum(call: CallShapes) -> int:
    """One product for each combination of all indices, beyond the first operand."""
    shapes = list(call.operands.values())
    if len(shapes) < 2 or call.equation.count(",") != len(shapes) - 1:
        return 0
    texts, _ = einsum_indices(call.equation, [len(shape) for shape in shapes])
    sizes: dict[str, int] = {}
    for text, shape in zip(texts, shapes, strict=True):
        for index, size in zip(text, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return math.prod(sizes.values()) * (len(shapes) - 1)


def recurrent(call: CallShapes) -> int:
    """Each step of each sequence multiplies with every weight matrix; output [.., hidden]."""
    steps = math.prod(call.output) // max(call.output[-1], 1)
    matrices = [shape for shape in call.parameters if len(shape) == 2]
    return steps * sum(math.prod(shape) for shape in matrices)
