"""Lookups of numbers one by one, as masks of attention are written."""

import onnx
import pytest
import torch
from torch import nn

import fxquant


class Looked(nn.Module):
    """A linear layer, of whose outputs some numbers are looked up by rows and columns."""

    def __init__(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)[self.rows[:, None, None], self.columns]


@pytest.mark.parametrize(
    ("rows", "columns", "op"),
    [
        ([0, 1], [0, 1, 2], "Reshape"),
        ([0, -1], [0, 1, -1], "Reshape"),
        ([1, 0], [0, 1, 2], "GatherND"),
        ([0, 1], [0, 1], "GatherND"),
    ],
    ids=["all", "all_from_the_end", "rows_in_another_order", "not_all"],
)
def test_all_numbers_in_order_are_a_reshape(rows, columns, op, tmp_path):
    model, x = Looked(torch.tensor(rows), torch.tensor(columns)).eval(), torch.randn(2, 4)
    prepared = fxquant.prepare(model, x, target="qualcomm")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared)
    files = fxquant.export(quantized, tmp_path)
    found = {node.op_type for node in onnx.load(files.onnx).graph.node} & {"Reshape", "GatherND"}
    assert found == {op}
    assert fxquant.verify(quantized, files, [x], runtime="onnxruntime-exact").max_steps == 0
