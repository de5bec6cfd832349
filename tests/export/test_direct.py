"""Direct translation: ops that are translated as they are give what their decompositions give."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.export import onnx_file
from fxquant.runtimes import ExactOnnxRuntime

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.conv, self.call = nn.Conv2d(3, 4, 3), call
        self.norm = nn.BatchNorm2d(4).eval()
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x):
        return self.call(self, self.conv(x))


def masks(self, y):
    mask = (y > 0.0) & (y < 1.0) | (y == 0.0)
    return torch.where(mask, y, y * 0.5), mask


CASES = {
    "global pool": lambda self, y: F.adaptive_avg_pool2d(y, 1),
    "pool to a size": lambda self, y: F.adaptive_avg_pool2d(y, (1, 3)),
    "pool of rows": lambda self, y: F.adaptive_avg_pool1d(y.flatten(2), 1),
    "masks": masks,
    "integer masks": lambda self, y: ((y * 10).int() & 6) | 1,
    "smaller": lambda self, y: torch.min(y, y.square()),
    "masks of two types": lambda self, y: (y > 0.0) & (y * 10).int(),
    "larger of two types": lambda self, y: torch.max(y, (y * 2).int()),
    "cast": lambda self, y: (y * 10).to(torch.int64).to(y),
    "norm": lambda self, y: self.norm(y.sigmoid()),
    "norm without parameters": lambda self, y: F.batch_norm(
        y.sigmoid(), self.norm.running_mean, self.norm.running_var
    ),
}


def outputs(quantized, folder):
    runtime = ExactOnnxRuntime(fxquant.export(quantized, folder).onnx)
    return runtime.run({"x": IMAGE.numpy()})


@pytest.mark.slow
@pytest.mark.parametrize("call", CASES.values(), ids=CASES)
def test_both_ways_give_the_same(call, tmp_path, monkeypatch):
    quantized = fxquant.quantize(Calls(call).eval(), [IMAGE], target="onnxruntime").model
    direct = outputs(quantized, tmp_path / "direct")
    monkeypatch.setattr(onnx_file, "needs_no_decomposition", lambda exported: False)
    decomposed = outputs(quantized, tmp_path / "decomposed")
    for name, other in zip(direct, decomposed, strict=True):
        np.testing.assert_allclose(direct[name], decomposed[other], rtol=0.0, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("call", [CASES["global pool"], CASES["masks"], CASES["norm"]])
def test_common_ops_need_no_decomposition(call, tmp_path, caplog):
    quantized = fxquant.quantize(Calls(call).eval(), [IMAGE], target="onnxruntime").model
    with caplog.at_level(logging.INFO, logger="fxquant.export"):
        fxquant.export(quantized, tmp_path)
    assert "decomposed" not in caplog.text


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_pool_of_an_image_without_a_batch_is_of_its_axes(target, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).eval()
    quantized = fxquant.quantize(model, [IMAGE[0]], target=target).model
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [IMAGE[0]])
    assert report.max_steps <= 1
