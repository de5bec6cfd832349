import copy

import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import BatchError
from tests import digits

IMAGES = digits.split().test_images[:32]


def test_wrong_scale_in_the_simulation_is_found_and_located():
    broken = copy.deepcopy(digits.quantized("onnxruntime"))
    broken.get_submodule("quantizers.block2_relu").scale.mul_(1.1)
    report = fxquant.verify(broken, digits.files("onnxruntime"), [IMAGES])
    # the tensor itself, and the one behind it, which reads the same codes as other values
    assert [tensor.name for tensor in report.tensors if tensor.max_steps > 1] == [
        "block2.relu",
        "block2.conv2",
    ]


def test_wrong_weight_shows_in_the_tensor_behind_it_only():
    broken = copy.deepcopy(digits.quantized("onnxruntime"))
    broken.get_submodule("branch3").weight.add_(2)
    report = fxquant.verify(broken, digits.files("onnxruntime"), [IMAGES])
    worst = [tensor for tensor in report.tensors if tensor.max_steps > 1]
    drifted = [tensor.name for tensor in report.tensors if tensor.max_drift > 1]
    assert len(worst) == 1
    assert len(drifted) > 1


def test_report_names_tensors_that_the_file_lacks():
    other = fxquant.quantize(digits.float_model(), [IMAGES], target="onnxruntime").model
    report = fxquant.verify(other, digits.files("tensorrt"), [IMAGES])
    assert "block2.shortcut" in report.unmatched
    assert "block2.shortcut" not in {tensor.name for tensor in report.tensors}


def test_report_reads_as_text():
    text = str(digits.parity("onnxruntime"))
    assert "same top-1 on 599 of 599" in text
    assert "op by op" in text


def test_verify_without_batches_is_refused():
    with pytest.raises(BatchError, match="no batch"):
        fxquant.verify(digits.quantized("tensorrt"), digits.files("tensorrt"), [])


def test_verify_on_inputs_the_file_rejects_says_so():
    with pytest.raises(BatchError, match="ONNX Runtime rejects"):
        fxquant.verify(digits.quantized("tensorrt"), digits.files("tensorrt"), [torch.rand(2, 3, 16, 16)])


class AddsToItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        x += 1.0
        return self.conv(x)


def test_model_that_writes_into_its_input_is_compared_on_the_input_as_it_was(tmp_path):
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    quantized = fxquant.quantize(AddsToItsInput().eval(), [x.clone()], target="onnxruntime").model
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path, before.clone()), [x])
    assert torch.equal(x, before)
    assert report.max_drift <= 1


class AddsNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.out(self.fc(x) + torch.randn_like(x))


def test_random_tensors_are_taken_from_the_file(tmp_path):
    x = torch.randn(16, 8)
    quantized = fxquant.quantize(AddsNoise(), [x], target="onnxruntime").model
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [x])
    assert report.random == ("random",)
    assert report.max_drift <= 1
    assert "random, taken from the file: random" in str(report)


class PicksAtRandom(AddsNoise):
    def forward(self, x):
        return self.out(self.fc(x)[torch.rand(x.shape[0]) > 0.5])


def test_sizes_that_depend_on_random_numbers_are_named(tmp_path):
    x = torch.randn(64, 8)
    quantized = fxquant.quantize(PicksAtRandom(), [x], target="onnxruntime").model
    files = fxquant.export(quantized, tmp_path)
    # five times 64 rows drawn on either side: all the same numbers of them only by a rare chance
    with pytest.raises(BatchError, match="depend on random numbers"):
        fxquant.verify(quantized, files, [x] * 5)
