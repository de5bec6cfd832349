"""htp_weight_outcome: what Qualcomm's HTP makes of a layer with a weight of some format, as measured.

The table htp_weights.csv is written by tools/measure_htp_weights.py, on the simulator of onnxruntime-qnn
2.7.0 for SM8650 (V75): a small layer of each kind, input and output quantized with one type.
"""

import csv
import functools
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files

from fxquant.targets.htp_support import ACTIVATIONS


class Outcome(Enum):
    """What becomes of a layer."""

    RIGHT = "right"  # computes on integers, as exact arithmetic does
    FLOAT = "float"  # computes in fp16
    WRONG = "wrong"  # computes on integers, off by 8 steps of 8 bits or 100 of 16 bits at least
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """How the weight of a layer is stored.

    Attributes:
        layer: "conv1d", "conv2d", "conv3d", "depthwise1d", "depthwise2d", "conv_transpose1d",
            "conv_transpose2d", "gemm" or "matmul".
        weight: "s8", "u8", "s4", "u4", "s16" or "float".
        is_per_channel: Whether there is a scale per output channel.
        is_centered: Whether the zero point is the middle of the grid: 0, 128 or 8.
        has_bias: Whether the layer has a bias.
    """

    layer: str
    weight: str
    is_per_channel: bool
    is_centered: bool
    has_bias: bool


def htp_weight_outcome(form: WeightFormat, activation: str) -> Outcome | None:
    """Return what HTP makes of a layer between activations of a type, "u8" to "s16"; None if not measured."""
    return _table().get((form, activation))


@functools.cache
def _table() -> dict[tuple[WeightFormat, str], Outcome]:
    text = files("fxquant.targets").joinpath("htp_weights.csv").read_text(encoding="utf-8")
    return {
        (_form(row), activation): Outcome(row[activation])
        for row in csv.DictReader(text.splitlines())
        for activation in ACTIVATIONS
    }


def _form(row: dict[str, str]) -> WeightFormat:
    return WeightFormat(
        layer=row["layer"],
        weight=row["weight"],
        is_per_channel=row["scales"] == "channel",
        is_centered=row["zero_point"] == "middle",
        has_bias=row["bias"] == "yes",
    )
