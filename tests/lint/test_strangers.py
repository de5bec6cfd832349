"""Files of other tools: what is famously wrong with them is found."""

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

import fxquant
from tests.lint.htp import run
from tests.lint.test_fixes import outputs


class Reader(CalibrationDataReader):
    def __init__(self):
        random = np.random.default_rng(0)
        self.batches = iter(
            [{"x": random.standard_normal((2, 3, 16, 16)).astype(np.float32)} for _ in range(3)]
        )

    def get_next(self):
        return next(self.batches, None)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv(x) + x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("strangers") / "float.onnx"
    program = torch.onnx.export(
        Block().eval(), (torch.randn(2, 3, 16, 16),), dynamo=True, verbose=False, input_names=["x"]
    )
    program.save(str(path))
    return path


def quantized(float_file, folder, activation, *, per_channel=False, **options):
    path = folder / "quantized.onnx"
    quantize_static(
        float_file, path, Reader(), QuantFormat.QDQ, per_channel=per_channel,
        activation_type=activation, weight_type=QuantType.QInt8, extra_options=options,
    )  # fmt: skip
    return path


def test_onnxruntime_s_default_is_refused_by_tensorrt(float_file, tmp_path):
    report = fxquant.lint(quantized(float_file, tmp_path, QuantType.QUInt8))
    assert {"A01", "A02", "A09"} <= report.rules
    assert report.has_errors


def test_symmetric_int8_of_onnxruntime_has_integer_biases_only_to_repair(float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QInt8, per_channel=True, ActivationSymmetric=True)
    before = fxquant.lint(path)
    assert {finding.rule for finding in before.findings if finding.severity.value == "E"} == {"A09"}
    after = fxquant.lint(path, fix=tmp_path / "fixed.onnx")
    assert after.fixed["A09"] == 3
    assert not after.has_errors


def test_residual_add_of_onnxruntime_is_parted_from_its_convolution(float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QInt8, ActivationSymmetric=True)
    assert {"P01", "P04"} <= fxquant.lint(path).rules  # a scale per weight, both inputs of the add quantized


def test_fixed_file_of_a_stranger_computes_the_same(float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QInt8, per_channel=True, ActivationSymmetric=True)
    fixed = tmp_path / "fixed.onnx"
    fxquant.lint(path, fix=fixed)
    np.testing.assert_array_equal(outputs(str(fixed))[0], outputs(str(path))[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the exporter of that time
def test_torch_s_fake_quantization_has_zero_points(tmp_path):
    class FakeQuantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor(0.05))
            self.register_buffer("zero_point", torch.tensor(117, dtype=torch.int32))
            self.conv = nn.Conv2d(3, 16, 3)

        def forward(self, x):
            return self.conv(torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, 255))

    path = tmp_path / "torch.onnx"
    model = FakeQuantized().eval()
    torch.onnx.export(model, (torch.randn(1, 3, 8, 8),), str(path), dynamo=False, opset_version=17)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"A01", "A02"} <= fxquant.lint(path).rules


@pytest.mark.parametrize("per_channel", [True, False])
def test_default_file_of_onnxruntime_breaks_no_rule_of_qualcomm(per_channel, float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QUInt8, per_channel=per_channel)
    report = fxquant.lint(path, target="qualcomm")
    assert [finding for finding in report.findings if finding.severity.value != "I"] == []


@pytest.mark.htp
def test_default_file_of_onnxruntime_runs_on_integers_on_htp(float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QUInt8, per_channel=True)
    values = {"x": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}
    assert run(onnx.load(str(path)), values)[0] == "integer"


def test_int8_activations_of_onnxruntime_are_named_for_qualcomm(float_file, tmp_path):
    path = quantized(float_file, tmp_path, QuantType.QInt8, per_channel=True, ActivationSymmetric=True)
    assert "QNN-10" in fxquant.lint(path, target="qualcomm").rules
