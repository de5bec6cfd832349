"""Files of the schemes of TensorRT: float8 codes with scales, and weights of 4 bits in blocks."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.errors import NotCalibratedError, OptionError
from fxquant.runtimes import ExactOnnxRuntime

FLOAT8, INT4, FLOAT = onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.INT4, onnx.TensorProto.FLOAT


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.conv = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.up = nn.Linear(32, 256)
        self.matrix = nn.Parameter(torch.randn(256, 48) * 0.1)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(self.norm(self.conv(x)) + x)
        return torch.softmax(self.up(x.flatten(2).transpose(1, 2)), -1) @ self.matrix


IMAGES = torch.linspace(-2.0, 2.0, 4 * 3 * 36).reshape(4, 3, 6, 6).sin()


def quantized(target, model=None):
    torch.manual_seed(0)
    prepared = fxquant.prepare((model or Net()).eval(), IMAGES, target=target)
    fxquant.calibrate(prepared, [IMAGES])
    return fxquant.convert(prepared)


def constants(path):
    return {tensor.name: tensor for tensor in onnx.load(str(path)).graph.initializer}


def test_float8_weights_are_stored_as_codes_with_a_scale_per_channel(tmp_path):
    files = fxquant.export(quantized("tensorrt:fp8"), tmp_path)
    held = constants(files.onnx)
    assert (held["conv.weight"].data_type, list(held["conv.weight_scale"].dims)) == (FLOAT8, [32])
    assert (held["matrix"].data_type, list(held["matrix_scale"].dims)) == (FLOAT8, [48])
    assert held["first.weight"].data_type == FLOAT  # P14
    assert onnx.load(str(files.onnx)).opset_import[0].version == 19


def test_float8_activations_have_one_scale_and_a_zero_point_of_float8(tmp_path):
    graph = onnx.load(str(fxquant.export(quantized("tensorrt:fp8"), tmp_path).onnx)).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {held[node.input[2]].data_type for node in quantizers} == {FLOAT8}
    assert {tuple(held[node.input[1]].dims) for node in quantizers} == {()}


def test_range_that_an_op_fixes_gives_the_scale_in_float8(tmp_path):
    held = constants(fxquant.export(quantized("tensorrt:fp8"), tmp_path).onnx)
    assert onnx.numpy_helper.to_array(held["softmax_scale"]) == np.float32(1 / 448)  # P17


def test_float8_file_computes_what_is_simulated(tmp_path):
    model = quantized("tensorrt:fp8")
    report = fxquant.verify(model, fxquant.export(model, tmp_path), [IMAGES])
    assert len(report.tensors) == 3
    assert report.unmatched == ()
    assert report.max_steps <= 1


def test_simulation_holds_a_byte_per_float8_weight():
    model = quantized("tensorrt:fp8")
    assert model.conv.weight.dtype is torch.float8_e4m3fn
    assert model.conv.quantized_parameter("weight").dtype is torch.float32


def test_float8_quantizers_without_a_range_are_not_converted():
    prepared = fxquant.prepare(Net().eval(), IMAGES, target="tensorrt:fp8")
    with pytest.raises(NotCalibratedError, match="'relu'"):
        fxquant.convert(prepared)


@pytest.mark.parametrize("scheme", ["fp8", "w4"])
def test_file_of_a_scheme_breaks_no_rule(scheme, tmp_path):
    report = fxquant.lint(fxquant.export(quantized(f"tensorrt:{scheme}"), tmp_path, float_type=torch.float16))
    assert [str(finding) for finding in report.findings if finding.severity.value != "I"] == []


def test_encodings_of_float8_are_written_in_the_first_version_that_has_them(tmp_path):
    assert '"version": "2.0.0"' in fxquant.export(quantized("tensorrt:fp8"), tmp_path).encodings.read_text()
    assert '"version": "1.0.0"' in fxquant.export(quantized("tensorrt"), tmp_path).encodings.read_text()


def test_four_bit_weights_of_products_lie_in_blocks_of_128_and_convolutions_stay_float(tmp_path):
    files = fxquant.export(quantized("tensorrt:w4"), tmp_path)
    held = constants(files.onnx)
    kinds = Counter(tensor.data_type for name, tensor in held.items() if "zero_point" not in name)
    assert (held["matrix"].data_type, list(held["matrix_scale"].dims)) == (INT4, [2, 48])
    assert {held[name].data_type for name in ("first.weight", "conv.weight")} == {FLOAT}  # A14
    assert kinds[INT4] == 2
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(str(files.onnx)).graph.node}


def test_four_bit_file_computes_what_is_simulated(tmp_path):
    model = quantized("tensorrt:w4")
    session = ExactOnnxRuntime(fxquant.export(model, tmp_path).onnx)
    (ran,) = session.run({session.inputs[0]: IMAGES.numpy()}).values()
    simulated = model(IMAGES).detach().numpy()
    bound = 9 * 32 * 256 * 2**-24 * np.abs(simulated).max()  # order of the sums of the longest path
    assert np.abs(ran - simulated).max() <= bound


def test_four_bit_weight_of_an_odd_number_of_elements_stays_float():
    prepared = fxquant.prepare(nn.Linear(5, 3).eval(), torch.randn(2, 5), target="tensorrt:w4")
    report = fxquant.report(prepared)
    assert [site.reason for site in report.floats.values()] == [
        "A12: 15 elements of 4 bits do not fill bytes"
    ]


def test_scheme_that_is_none_is_refused():
    with pytest.raises(OptionError, match="fp8"):
        fxquant.prepare(Net(), target="tensorrt:fp9")
