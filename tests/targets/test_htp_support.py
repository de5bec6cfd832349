import csv
import importlib.util
from importlib.resources import files
from pathlib import Path

import pytest

from fxquant.targets.htp_support import ACTIVATIONS, Kind, htp_support
from fxquant.targets.htp_weights import Outcome, WeightFormat, htp_weight_outcome

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("op", "activation", "kind"),
    [("Conv", "u8", "int"), ("Erf", "u16", "no"), ("Mish", "u8", "float"), ("PRelu", "u16", "no")],
)
def test_support_is_as_measured(op, activation, kind):
    assert htp_support(op, activation).kind is Kind(kind)


@pytest.mark.parametrize(("op", "activation"), [("Softmax", "s8"), ("Log", "u16"), ("CumSum", "u8")])
def test_what_runs_and_is_wrong_is_marked(op, activation):
    assert htp_support(op, activation).is_wrong


def test_an_operator_that_was_not_measured_has_no_support():
    assert htp_support("Mystery", "u8") is None
    assert htp_support("Conv", "u4") is None


@pytest.mark.parametrize(
    ("layer", "weight", "is_per_channel", "activation", "outcome"),
    [
        ("conv2d", "s8", True, "u8", Outcome.RIGHT),
        ("depthwise2d", "s8", True, "s16", Outcome.REFUSED),
        ("gemm", "s4", True, "u16", Outcome.RIGHT),
        ("matmul", "float", False, "u8", Outcome.FLOAT),
        ("conv2d", "float", False, "u16", Outcome.WRONG),
        ("conv4d", "s8", True, "u8", None),
    ],
)
def test_outcome_of_a_weight_is_as_measured(layer, weight, is_per_channel, activation, outcome):
    form = WeightFormat(
        layer=layer, weight=weight, is_per_channel=is_per_channel, is_centered=True, has_bias=False
    )
    assert htp_weight_outcome(form, activation) is outcome


def test_every_row_of_the_data_is_read():
    text = files("fxquant.targets").joinpath("htp_support.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 300
    assert {row["activation"] for row in rows} == set(ACTIVATIONS)
    assert all(htp_support(row["op"], row["activation"]).kind is Kind(row["kind"]) for row in rows)


def test_the_worst_of_an_operator_s_forms_counts_and_of_alternatives_the_best(tmp_path):
    spec = importlib.util.spec_from_file_location("condense", ROOT / "tools" / "condense_qnn_matrix.py")
    condense = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(condense)
    matrix, table = tmp_path / "matrix.csv", tmp_path / "table.csv"
    matrix.write_text(
        "case,v75,v75_diff,unit\n"
        "Add/u8,int,0.5,q\nAdd bcast/u8,float,2,q\n"  # forms
        "LN gamma=u8 beta=i32/u8,int,1,q\nLN gamma=s8 beta=i32/u8,no,,\n"  # alternatives
        "TopK/u8,float,1,abs\n",
        encoding="utf-8",
    )
    condense.condense(matrix, table)
    rows = table.read_text(encoding="utf-8").splitlines()
    assert rows == [
        "op,activation,kind,steps",
        "Add,u8,float,2",
        "LayerNormalization,u8,int,1",
        "TopK,u8,float,",
    ]
