"""Condense a matrix of measured QNN HTP cases into fxquant/targets/htp_support.csv.

    python tools/condense_qnn_matrix.py qnn_matrix.csv

The matrix has a row per small model: `case` is "<name>/<activation>", `v75` says int, float or no, `v75_diff`
is the largest difference from exact arithmetic, in output steps where `unit` is q. An operator gets the worst
of its groups of cases, and of the cases in a group, which are alternatives such as types of a parameter, the
best.
"""

import csv
import sys
from pathlib import Path

ACTIVATIONS = ("u8", "s8", "u16", "s16")
RANKS = {"int": 0, "float": 1, "no": 2}
TARGET = Path(__file__).parent.parent / "fxquant" / "targets" / "htp_support.csv"

# operator -> groups of alternative cases; where nothing is said, one group with the case of the same name
SAME_NAME = (
    *("Abs", "ArgMax", "Celu", "Cos", "DepthToSpace", "Elu", "Erf", "Exp", "Flatten", "Floor"),
    *(
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "LRN",
        "LeakyRelu",
    ),
    *("Log", "LogSoftmax", "LpNormalization", "Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Round", "Selu"),
    *(
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "SpaceToDepth",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
        "TopK",
    ),
    *("Where", "GridSample", "LSTM", "GRU"),
)
SAME_ENCODING = ("MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Tile")
BROADCAST = ("Add", "Sub", "Mul", "Div", "Max", "Min")
REDUCTIONS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")
GAMMAS = ("u8", "s8", "u16", "s16")
GROUPS = {
    **{name: ((name,),) for name in SAME_NAME},
    **{name: ((f"{name} q=",),) for name in SAME_ENCODING},
    "CumSum": (("CumSum ax1", "CumSum q!="),),
    **{name: ((name,), (f"{name} bcast",)) for name in BROADCAST},
    **{name: ((f"{name} hw",),) for name in REDUCTIONS},
    "AveragePool": (("AveragePool",), ("AveragePoolPad",)),
    "BatchNormalization": (("BatchNorm q", "BatchNorm q3i32"),),
    "Clip": (("Relu6",), ("Clip-1_1",)),
    "Concat": (("Concat q!=",), ("Concat q=",)),
    "Conv": (("Conv i8c i32b",),),
    "ConvTranspose": (("Conv[tr] i8c i32b",),),
    "Einsum": (("Einsum bhid,bhjd->bhij",),),
    "Gather": (("GatherIdx q=",),),
    "GatherND": (("GatherND",),),
    "Gelu": (("Gelu",), ("GeluTanh",)),
    "Gemm": (("Gemm tB i8c i32b",),),
    "GroupNormalization": (("GroupNorm float g,b",),),
    "InstanceNormalization": (tuple(f"IN gamma={gamma} beta=i32" for gamma in GAMMAS),),
    "LayerNormalization": (tuple(f"LN gamma={gamma} beta=i32" for gamma in GAMMAS),),
    "MatMul": (("MatMul i8c",),),
    "Pad": (("PadConst q=",), ("PadReflect q=",), ("PadEdge q=",)),
    "Pow": (("Pow2 qexp",),),
    "RMSNormalization": (tuple(f"RMSN gamma={gamma}" for gamma in GAMMAS),),
    "ReduceMean": (("ReduceMean hw",), ("ReduceMean last",), ("ReduceMean c nokeep",)),
    "Resize": (("ResizeNearest q=",), ("ResizeBilinearHP q=",), ("ResizeBilinearAC q=",)),
    "Softmax": (("Softmax",), ("SoftmaxAx1",)),
    "Swish": (("Swish opset24",),),
    "Transpose": (("Transpose q=",),),
}

Result = tuple[str, str]  # kind, largest difference in steps or nothing


def condense(matrix: Path, target: Path) -> None:
    """Write a row per operator and activation that the matrix has."""
    with matrix.open(newline="", encoding="utf-8") as file:
        measured = {row["case"]: _result(row) for row in csv.DictReader(file)}
    lines = ["op,activation,kind,steps"]
    for op in sorted(GROUPS):
        for activation in ACTIVATIONS:
            groups = [
                [measured[key] for name in group if (key := f"{name}/{activation}") in measured]
                for group in GROUPS[op]
            ]
            found = [min(group, key=_badness) for group in groups if group]
            if found:
                lines.append(",".join((op, activation, *max(found, key=_badness))))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _result(row: dict[str, str]) -> Result:
    steps = row["v75_diff"] if row["unit"] == "q" and row["v75"] != "no" else ""
    return row["v75"], steps and f"{float(steps):g}"


def _badness(result: Result) -> tuple[int, float]:
    return RANKS[result[0]], float(result[1] or 0)


if __name__ == "__main__":
    condense(Path(sys.argv[1]), TARGET)
