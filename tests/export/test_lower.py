import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import ExportError
from fxquant.quantization.affine import QuantizeDequantize
from tests import digits


def with_activation_grid(qmin, qmax):
    """A calibrated one-layer model whose input lies on a given grid."""
    model = fxquant.prepare(nn.Sequential(nn.Linear(4, 3)), target="onnxruntime")
    model.quantizers.input = QuantizeDequantize((), qmin, qmax, False)
    fxquant.calibrate(model, [torch.rand(2, 4)])
    return fxquant.convert(model)


def test_sixteen_bit_activations_are_exported_and_agree(tmp_path):
    quantized = with_activation_grid(0, 65535)
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [torch.rand(8, 4)])
    assert report.max_steps <= 1
    assert report.outputs[0].max_difference < 1e-4


@pytest.mark.parametrize("grid", [(0, 100), (-127, 127)], ids=["101 codes", "narrow int8"])
def test_grid_that_onnx_does_not_have_is_refused(grid, tmp_path):
    quantized = with_activation_grid(*grid)
    with pytest.raises(ExportError, match=r"Tensor 'input' lies on the grid"):
        fxquant.export(quantized, tmp_path)


@pytest.mark.parametrize("target", digits.TARGETS)
def test_export_leaves_the_model_as_it_was(target, tmp_path):
    model = digits.quantized(target)
    before = {name: type(module) for name, module in model.named_modules()}
    output = model(digits.split().test_images[:4])
    fxquant.export(model, tmp_path)
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert torch.equal(model(digits.split().test_images[:4]), output)


def test_batch_of_one_still_gives_a_dynamic_batch(tmp_path):
    quantized = fxquant.quantize(nn.Sequential(nn.Linear(4, 3)).eval(), [torch.rand(1, 4)]).model
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [torch.rand(7, 4)])
    assert report.outputs[0].samples == 7


def test_export_without_inputs_is_refused(tmp_path):
    model = fxquant.prepare(nn.Sequential(nn.ReLU()), target="onnxruntime")
    with pytest.raises(ExportError, match="no inputs to trace"):
        fxquant.export(fxquant.convert(model), tmp_path)


def test_export_takes_inputs_of_its_own(tmp_path):
    model = fxquant.prepare(nn.Sequential(nn.ReLU()), target="onnxruntime")
    files = fxquant.export(fxquant.convert(model), tmp_path, example_inputs=torch.rand(2, 3))
    assert files.onnx.exists()


class WritesItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, y):
        y[:, 0] = 2.0
        return self.fc(y)


class ReadsWhatAPartWrote(nn.Module):
    """A layer that stays whole, since it loops over rows, and reads what the layer it calls wrote."""

    def __init__(self):
        super().__init__()
        self.part = WritesItsInput()

    def forward(self, x):
        rows = [x[index : index + 1] * 1.0 for index in range(x.shape[0])]
        return torch.cat([self.part(row) + row for row in rows])


def test_a_write_that_a_whole_layer_reads_is_in_the_file(tmp_path):
    x = torch.randn(4, 4)
    model = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4), ReadsWhatAPartWrote())
    quantized = fxquant.quantize(model, [x], target="onnxruntime").model
    assert [layer.layer for layer in fxquant.report(quantized).capture.opaque] == ["2"]
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [x])
    assert report.outputs[0].max_difference < 1e-5  # without the write it is off by 2
