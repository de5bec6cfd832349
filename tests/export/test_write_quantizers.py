"""write_quantizers: constants that are read in several ways, half types, and names that are taken."""

import onnx
import pytest
import torch
from torch import nn

import fxquant

EVERY_FORM = pytest.mark.parametrize("target", ["onnxruntime", "qualcomm", "tensorrt"])
ROWS, MATRIX = torch.randn(2, 5, 8), torch.randn(2, 8)


class TwoRanks(nn.Module):
    """A layer whose weight is read as it is by a Gemm, and transposed by a product."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x, y):
        return self.fc(x) + self.fc(y).unsqueeze(1)


class TakenNames(nn.Module):
    """Names that an exported file derives from others."""

    def __init__(self):
        super().__init__()
        self.x_qdq, self.fc = nn.Linear(8, 8), nn.Linear(8, 8)
        self.zero_point_0 = nn.Parameter(torch.randn(8))

    def forward(self, x, x_q, x_scale, zero_point_1):
        return self.x_qdq(x) * self.fc(x_q) + self.fc(x_scale) * self.zero_point_0 + self.fc(zero_point_1)


class HalfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.fc = nn.Embedding(10, 8), nn.Linear(8, 8)

    def forward(self, ids):
        return self.fc(self.words(ids))


class OfNumbersAlone(nn.Module):
    def forward(self, x):
        return torch.maximum(x, torch.tensor(0.5)) * x


def differences(model, folder, *inputs, target, allowed=1):
    quantized = fxquant.quantize(model.eval(), [inputs], target=target).model
    files = fxquant.export(quantized, folder)
    report = fxquant.verify(quantized, files, [inputs], runtime="onnxruntime-exact")
    assert report.max_steps <= allowed
    return files, report


@EVERY_FORM
@pytest.mark.parametrize("has_quantizers", [True, False], ids=["quantizers", "float"])
def test_a_layer_that_is_called_on_two_ranks_is_exported(target, has_quantizers, tmp_path):
    quantized = fxquant.quantize(TwoRanks().eval(), [(ROWS, MATRIX)], target=target).model
    files = fxquant.export(quantized, tmp_path, has_quantizers=has_quantizers)
    if has_quantizers:
        report = fxquant.verify(quantized, files, [(ROWS, MATRIX)], runtime="onnxruntime-exact")
        assert (report.unmatched, report.max_steps <= 1) == ((), True)


@EVERY_FORM
def test_names_that_are_taken_are_not_given_twice(target, tmp_path):
    files, report = differences(TakenNames(), tmp_path, *[MATRIX * n for n in (1, 2, 3, 4)], target=target)
    graph = onnx.load(files.onnx).graph
    assert [value.name for value in graph.input] == ["x", "x_q", "x_scale", "zero_point_1"]
    names = [value.name for value in graph.input] + [tensor.name for tensor in graph.initializer]
    names += [name for node in graph.node for name in node.output]
    assert len(set(names)) == len(names)
    assert set(report.unmatched) <= {"x"}  # the name of its codes is that of an input


@EVERY_FORM
def test_a_half_model_is_float32_around_its_integers_only(target, tmp_path):
    files, report = differences(HalfWords().half(), tmp_path, torch.arange(10).reshape(2, 5), target=target)
    (output,) = onnx.load(files.onnx).graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert report.outputs[0].max_difference < 2e-2  # ten roundings to half of numbers near 1


def test_a_constant_of_the_forward_is_quantized(tmp_path):
    _, report = differences(OfNumbersAlone(), tmp_path, MATRIX, target="qualcomm")
    assert report.outputs[0].max_difference < 1e-5
