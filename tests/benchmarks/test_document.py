"""docs/benchmarks.md is made of the results that are kept, and of nothing else."""

import pytest

from benchmarks.document import DOCUMENT, document_text
from benchmarks.peers import peer_rows
from benchmarks.plots import draw_growth
from benchmarks.result import Result, load_result, save_rows


def test_document_is_what_the_kept_results_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document_text(), "run python -m benchmarks --write"


def test_rows_are_kept_with_the_machine(tmp_path) -> None:
    save_rows("memory", [{"model": "resnet18", "minmax": "1.10"}], tmp_path)
    result = load_result("memory", tmp_path)
    assert result.rows == [{"model": "resnet18", "minmax": "1.10"}]
    assert "torch" in result.machine
    assert load_result("growth", tmp_path) is None


def test_part_that_was_never_measured_is_left_out(tmp_path) -> None:
    save_rows("memory", [{"model": "resnet18", "minmax": "1.10"}], tmp_path)
    headings = [line for line in document_text(tmp_path).splitlines() if line.startswith("## ")]
    assert headings == ["## Peak memory of the whole job, against the float forwards"]


def test_peers_stand_beside_ours_and_a_dash_where_one_has_no_figure(tmp_path) -> None:
    ours = [
        {"model": "resnet18", "minmax": "1.05"},
        {"model": "MiniLM (random weights)", "minmax": "1.15"},
    ]
    peers = [{"peer": "AIMET 2.42.0", "measure": "minmax", "note": "4 batches", "MiniLM": "2.50"}]
    save_rows("calibration", ours, tmp_path)
    save_rows("peers", peers, tmp_path)
    rows = [line for line in document_text(tmp_path).splitlines() if "min-max" in line]
    assert rows == [
        "| calibrate, min-max | **fxquant** |  | 1.05 | - | - | - | 1.15 |",
        "| calibrate, min-max | AIMET 2.42.0 | 4 batches | - | - | - | - | 2.50 |",
    ]


def test_simulated_forward_beside_peers_is_that_of_one_target(tmp_path) -> None:
    ours = [
        {"target": target, "model": "text encoder", "forward, quantized": figure}
        for target, figure in [("tensorrt", "1.90"), ("onnxruntime", "1.40"), ("qualcomm", "2.00")]
    ]
    results = {"simulation": Result(machine="", rows=ours)}
    rows = peer_rows(results, Result(machine="", rows=[]))
    assert [row["MiniLM"] for row in rows if row["what"] == "simulated forward"] == ["1.40"]


def test_two_machines_are_told_apart(tmp_path) -> None:
    save_rows("memory", [{"model": "resnet18"}], tmp_path)
    save_rows("models", [{"model": "resnet18"}], tmp_path)
    other = (tmp_path / "models.json").read_text().replace('"machine": "', '"machine": "another ')
    (tmp_path / "models.json").write_text(other)
    lines = document_text(tmp_path).splitlines()
    assert [line[:18] for line in lines if line.startswith("Machine ")][1] == "Machine B: another"
    assert lines.index("Machine A.") < lines.index("Machine B.")


@pytest.mark.slow
def test_growth_is_drawn_the_same_from_the_same_rows(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="pip install fxquant[bench]")
    rows = [
        {"grows": "layers", "size": size, "prepare": seconds, "minmax": seconds}
        for size, seconds in [("10", "0.01"), ("100", "0.10"), ("exponent", "1.00")]
    ]
    for name in ("one.svg", "two.svg"):
        draw_growth(rows, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "minmax" in drawn
