"""fuse_linears: products with stored matrices as Gemm, looked at and run."""

from collections import Counter

import onnx
import pytest
import torch
from torch import nn

import fxquant

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.bare = nn.Linear(8, 8, bias=False)


class Chain(Layers):
    def forward(self, x):
        return self.b(self.a(x).relu())


class Clipped(Layers):
    def forward(self, x):
        return self.b(self.a(x).clamp(0.0, 0.5))


class WithoutBias(Layers):
    def forward(self, x):
        return self.b(self.bare(x))


class GivesWhatItReads(Layers):
    def forward(self, x):
        y = self.a(x)
        return y, y.relu()


class SeveralReaders(Layers):
    def forward(self, x):
        y = self.a(x)
        return self.b(y) + y


class OneTensorTwice(Layers):
    def forward(self, x):
        return self.a(x) * self.b(x)


class OneLayerTwice(Layers):
    def forward(self, x):
        return self.a(self.a(x))


class SeveralFreeSizes(Layers):
    def forward(self, x):
        rows = self.a(x).reshape(x.shape[0] * x.shape[1], 1, 8)
        return self.b(rows)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 5))

    def forward(self, x):
        return self.weight @ x


class NamesOfOurs(Layers):
    def forward(self, x, x_flat, a_2d):
        return self.a(x) + self.b(x_flat) + self.a(a_2d)


def exported(model, folder, *inputs, target="onnxruntime"):
    """Return a quantized model, its file's path, and how many nodes of each op the file has."""
    quantized = fxquant.quantize(model.eval(), [inputs], target=target).model
    path = fxquant.export(quantized, folder).onnx
    return quantized, path, Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("build", "products"),
    [
        (Chain, 2),
        (Clipped, 2),
        (WithoutBias, 2),
        (GivesWhatItReads, 1),
        (SeveralReaders, 2),
        (OneTensorTwice, 2),
        (OneLayerTwice, 2),
        (SeveralFreeSizes, 2),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_linear_layer_is_a_gemm_that_agrees(build, products, tmp_path):
    quantized, path, ops = exported(build(), tmp_path, X)
    assert (ops["Gemm"], ops["MatMul"]) == (products, 0)
    report = fxquant.verify(quantized, path, [X, torch.cat([X, X * 0.5])], runtime="onnxruntime-exact")
    assert (report.unmatched, report.max_steps <= 1) == ((), True)


def test_a_tensor_that_two_layers_read_is_flattened_once(tmp_path):
    _, path, ops = exported(OneTensorTwice(), tmp_path, X)
    flat = [node.output[0] for node in onnx.load(path).graph.node if node.output[0].endswith("_flat")]
    assert flat == ["x_flat"]
    assert ops["Reshape"] == 3  # it, and each product


def test_a_constant_on_the_left_stays_a_product(tmp_path):
    quantized, path, ops = exported(Plain(), tmp_path, X)
    assert (ops["Gemm"], ops["MatMul"]) == (0, 1)
    assert fxquant.verify(quantized, path, [X]).max_steps <= 1


def test_a_target_without_gemm_keeps_products(tmp_path):
    _, _, ops = exported(Chain(), tmp_path, X, target="tensorrt")
    assert (ops["Gemm"], ops["MatMul"]) == (0, 2)


def test_an_output_keeps_its_shape(tmp_path):
    _, path, _ = exported(GivesWhatItReads(), tmp_path, X)
    for output in onnx.load(path).graph.output:
        assert [size.dim_value for size in output.type.tensor_type.shape.dim][1:] == [5, 8]


def test_inputs_may_have_the_names_that_the_file_makes(tmp_path):
    quantized, path, ops = exported(NamesOfOurs(), tmp_path, X, X * 0.5, X * 2.0)
    assert [value.name for value in onnx.load(path).graph.input] == ["x", "x_flat", "a_2d"]
    assert ops["Gemm"] == 3
    report = fxquant.verify(quantized, path, [(X, X * 0.5, X * 2.0)])
    assert (report.unmatched, report.max_steps <= 1) == ((), True)
