"""split_gemms: products with weights in blocks are written in the form that kernels have."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import fxquant


class TwoLayers(nn.Module):
    """A layer with a bias, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 96), nn.Linear(96, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def exported(target, shape, folder):
    x = torch.randn(shape)
    prepared = fxquant.prepare(TwoLayers().eval(), x, target=target)
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared)
    return quantized, fxquant.export(quantized, folder), x


@pytest.mark.parametrize("target", ["onnxruntime:w4", "qualcomm:w4a8-lpbq"])
@pytest.mark.parametrize("shape", [(4, 64), (2, 3, 64)], ids=["matrix", "sequence"])
def test_weights_in_blocks_are_read_by_matmul(target, shape, tmp_path):
    quantized, files, x = exported(target, shape, tmp_path)
    ops = [node.op_type for node in onnx.load(files.onnx).graph.node]
    assert (ops.count("Gemm"), ops.count("MatMul"), ops.count("Add")) == (0, 2, 1)
    report = fxquant.verify(quantized, files, [x], runtime="onnxruntime-exact")
    assert report.max_steps <= 1


def test_scales_per_channel_stay_in_gemm(tmp_path):
    _, files, _ = exported("qualcomm:w4a8", (4, 64), tmp_path)
    ops = [node.op_type for node in onnx.load(files.onnx).graph.node]
    assert (ops.count("Gemm"), ops.count("MatMul")) == (2, 0)


def test_onnxruntime_fuses_layers_with_and_without_bias_into_its_kernel(tmp_path):
    _, files, _ = exported("onnxruntime:w4", (2, 3, 64), tmp_path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(files.onnx), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    fused = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert [len([name for name in node.input if name]) for node in fused] == [5, 4]  # the first has a bias
    assert {node.op_type for node in nodes} == {"MatMulNBits"}
