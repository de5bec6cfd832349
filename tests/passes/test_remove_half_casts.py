from typing import Any

import pytest
import torch
from torch import nn

import fxquant
from fxquant.graph import Example, Report, capture
from fxquant.passes import RemoveHalfCasts

X = torch.randn(4, 8)


class Slopes(nn.Module):
    """Biases of attention in bfloat16, as falcon computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slopes = (self.fc(x).bfloat16() * torch.arange(8).half()).to(torch.bfloat16)
        return self.fc(slopes.float())


def test_a_float_model_computes_in_float(check_rewrite: Any) -> None:
    gm = capture(Slopes(), Example(args=(X,)))
    check_rewrite(gm, RemoveHalfCasts(), "slopes")
    fc = gm.fc
    torch.testing.assert_close(gm(X), fc(fc(X) * torch.arange(8)))


@pytest.mark.parametrize("half", ["weights", "inputs"])
def test_a_model_with_half_types_is_left(half: str) -> None:
    model = Slopes()
    if half == "weights":
        model.register_buffer("table", torch.zeros(2, dtype=torch.float16))
    gm = capture(model, Example(args=(X.bfloat16().float(),) if half == "weights" else (X,)))
    if half == "inputs":
        placeholder = gm.graph.find_nodes(op="placeholder")[0]
        placeholder.meta["result"] = type(placeholder.meta["result"])(shape=(4, 8), dtype=torch.bfloat16)
    gm.register_buffer("table", getattr(model, "table", torch.zeros(2)))
    report = Report()
    assert not RemoveHalfCasts()(gm, report)
    assert "half types" in report.declined("remove-half-casts")[0].reason


def test_the_file_of_such_a_model_agrees(tmp_path: Any) -> None:
    quantized = fxquant.quantize(Slopes(), [X], target="onnxruntime").model
    assert fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [X]).max_steps <= 1
