"""htp_support: how Qualcomm's HTP runs an ONNX operator between quantized tensors, as measured.

The table htp_support.csv holds the worst of the measured forms of each operator, on the simulator of
onnxruntime-qnn 2.7.0 for SM8650 (V75), inputs and outputs quantized with the same type. Weighted operators
have int8 weights per channel and int32 biases, normalizations the best of the types of their gamma.
"""

import csv
import functools
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files

ACTIVATIONS = ("u8", "s8", "u16", "s16")
_WRONG_FROM = {"u8": 16.0, "s8": 16.0, "u16": 1024.0, "s16": 1024.0}  # 6 % and 1.6 % of the range


class Kind(Enum):
    """How an operator runs."""

    INTEGER = "int"  # an integer kernel
    FLOAT = "float"  # dequantized, computed in fp16, quantized again: a float island
    NONE = "no"  # refused


@dataclass(frozen=True, kw_only=True)
class Support:
    """What was measured of an operator with one type of activation.

    Attributes:
        kind: How it runs.
        steps: Largest difference from exact arithmetic, in steps of the output; None if not measured.
        is_wrong: Whether it runs, and gives other numbers than it should.
    """

    kind: Kind
    steps: float | None
    is_wrong: bool = False


def htp_support(onnx_op: str, activation: str) -> Support | None:
    """Return how HTP runs an ONNX operator; None where it was not measured.

    Args:
        onnx_op: Name of the operator, such as "Conv".
        activation: "u8", "s8", "u16" or "s16"; signed ones are symmetric.
    """
    return _table().get((onnx_op, activation))


@functools.cache
def _table() -> dict[tuple[str, str], Support]:
    text = files("fxquant.targets").joinpath("htp_support.csv").read_text(encoding="utf-8")
    return {(row["op"], row["activation"]): _support(row) for row in csv.DictReader(text.splitlines())}


def _support(row: dict[str, str]) -> Support:
    kind, steps = Kind(row["kind"]), float(row["steps"]) if row["steps"] else None
    is_wrong = steps is not None and steps >= _WRONG_FROM[row["activation"]]
    return Support(kind=kind, steps=steps, is_wrong=is_wrong)
