"""The page of the proof: a row for each architecture, and what runtimes left out."""

from tests.zoo.proof import Proof, page

MEASURED = Proof(
    name="timm/one",
    size=0.2567,
    onnxruntime={"steps": 1, "codes": 2.5e-5, "top1": "63/64", "notes": []},
    integer={"steps": 0, "codes": 0.0, "top1": "64/64", "notes": []},
    htp={"steps": 2, "codes": 0.01, "cpu": 3, "float": 0, "notes": ["not taken: Gather 'words'"]},
    openvino={"notes": ["the runtime refused it"]},
)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]


def test_every_row_has_a_cell_for_every_column() -> None:
    header, rule, *found = rows(page([MEASURED, Proof(name="timm/two")]))
    assert {len(rule), *map(len, found)} == {len(header)}


def test_a_row_says_what_was_measured_and_a_dash_what_was_not() -> None:
    header, _, row = rows(page([MEASURED]))
    assert row[:7] == ["timm/one", "0.257", "1", "2.5e-05", "63/64", "64/64", "0"]
    assert row[7:11] == ["3", "0", "2", "1.0e-02"]
    assert row[header.index("OpenVINO steps")] == "-"


def test_what_a_runtime_left_out_is_listed_below_the_table() -> None:
    text = page([MEASURED])
    assert text.splitlines()[-2:] == [
        "- timm/one, htp: not taken: Gather 'words'",
        "- timm/one, openvino: the runtime refused it",
    ]
