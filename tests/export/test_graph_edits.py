import numpy as np
import onnx
import pytest
import torch
from torch import nn

import fxquant
from tests import digits


class Tokens(nn.Module):
    """A linear layer on three dimensions, which ONNX writes as MatMul."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(24, 16)

    def forward(self, x):
        return self.fc(x)


class Pools(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True), x.mean(1, keepdim=True), x.mean((2, 3))


def exported(model, batch, folder, target="onnxruntime"):
    quantized = fxquant.quantize(model.eval(), [batch], target=target).model
    return onnx.load(fxquant.export(quantized, folder).onnx).graph


def test_linear_weight_of_a_matmul_is_stored_transposed(tmp_path):
    graph = exported(Tokens(), torch.rand(2, 5, 24), tmp_path, "tensorrt")
    made_by = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (matmul,) = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    dequantize = made_by[matmul.input[1]]
    assert dequantize.op_type == "DequantizeLinear"
    assert stored[dequantize.input[0]].shape == (24, 16)
    assert stored[dequantize.input[0]].dtype == np.int8
    assert [a.i for a in dequantize.attribute if a.name == "axis"] == [1]
    assert "Transpose" not in {node.op_type for node in graph.node}


def test_only_a_mean_over_all_spatial_axes_is_a_global_pool(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.pools = Pools()

        def forward(self, x):
            return self.pools(self.conv(x))

    graph = exported(Net(), torch.rand(2, 3, 4, 4), tmp_path)
    ops = [node.op_type for node in graph.node]
    assert ops.count("GlobalAveragePool") == 1
    assert ops.count("ReduceMean") == 2


@pytest.mark.parametrize("target", digits.TARGETS)
def test_file_holds_no_trace_of_the_exporter(target):
    model = onnx.load(digits.files(target).onnx)
    assert not model.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert {entry.key for entry in model.metadata_props} == {"fxquant.target", "fxquant.pipeline"}
    assert model.producer_name == "fxquant"


@pytest.mark.parametrize("target", digits.TARGETS)
def test_every_constant_is_read(target):
    graph = onnx.load(digits.files(target).onnx).graph
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


@pytest.mark.parametrize("arithmetic", ["float", "integer"])
def test_softmax_along_a_dimension_of_size_one_gives_one(arithmetic, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 1), nn.Linear(1, 3)

        def forward(self, x):
            return self.last(torch.softmax(self.first(x), -1))

    torch.manual_seed(0)
    x = torch.randn(5, 4)
    prepared = fxquant.prepare(Net().eval(), x, target="onnxruntime")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared, arithmetic)
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [x])
    assert (report.max_steps, report.max_drift) == (0, 0)
