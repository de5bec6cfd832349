"""verify against each runtime: an intact file agrees, a broken one is caught and located."""

import numpy as np
import onnx
import pytest
import torch

import fxquant
from fxquant.analysis import compare_runtimes
from fxquant.errors import BatchError, OptionError
from tests import digits
from tests.runtimes import files

IMAGES = digits.split().test_images[:4]


@pytest.fixture
def broken(tmp_path):
    """The digits file with the sign of one weight changed, the largest of one layer."""
    model = onnx.load(digits.files("onnxruntime").onnx)
    (stored,) = (tensor for tensor in model.graph.initializer if tensor.name == "block2.shortcut.weight")
    codes = onnx.numpy_helper.to_array(stored).copy()
    largest = np.unravel_index(np.abs(codes).argmax(), codes.shape)
    codes[largest] = -codes[largest]
    stored.CopyFrom(onnx.numpy_helper.from_array(codes, stored.name))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("runtime", files.RUNTIMES)
def test_no_op_departs_from_its_simulation(runtime):
    report = fxquant.verify(digits.quantized("onnxruntime"), digits.files("onnxruntime"), [IMAGES], runtime)
    assert report.runtime == runtime
    assert report.first_departure is None
    assert report.max_steps <= 1
    assert report.top1_agreement == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", files.RUNTIMES)
def test_one_wrong_weight_is_the_first_departure(runtime, broken):
    report = fxquant.verify(digits.quantized("onnxruntime"), broken, [IMAGES], runtime)
    first = report.first_departure
    assert first is not None
    assert (first.layer, first.op) == ("block2.shortcut", "conv2d")
    assert first.steps > 10
    assert "first departure" in str(report)
    assert "'block2.shortcut'" in str(report)


@pytest.mark.slow
@pytest.mark.htp
def test_what_the_htp_left_to_the_cpu_is_in_the_report():
    # the last Gemm gives float: the HTP takes quantized outputs only
    report = fxquant.verify(digits.quantized("onnxruntime"), digits.files("onnxruntime"), [IMAGES], "htp")
    assert [node.op for node in report.fallbacks] == ["Gemm", *["DequantizeLinear"] * 3]
    assert "not taken by the runtime: Gemm 'linear': Failed to add node" in str(report)
    assert report.float_islands == ()


def test_wrong_op_of_openvino_is_found_without_a_model(tmp_path):
    pytest.importorskip("openvino")
    images = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32) * 3
    report = compare_runtimes(files.write(files.PADDED_POOL, tmp_path), [{"x": images}], "openvino")
    first = report.first_departure
    assert first is not None
    assert (first.name, first.op) == ("z", "AveragePool")
    assert report.reference == "onnxruntime-exact"


def test_quantizers_that_openvino_drops_are_in_the_report(tmp_path):
    pytest.importorskip("openvino")
    path = files.write(files.SUM.replace("uint8 zero = {128}", "uint16 zero = {32768}"), tmp_path)
    feeds = {name: np.full((1, 4), 5000, np.float32) for name in "xy"}  # the grid ends at 4095.875
    report = compare_runtimes(path, [feeds], "openvino")
    assert [node.node for node in report.fallbacks] == ["x_q", "y_q", "z_q"]
    assert report.outputs[0].max_difference > 5000  # 10000 where the file says 4095.875
    assert not report.is_exposure_neutral


@pytest.mark.htp
def test_float_island_of_the_htp_is_found_without_a_model(tmp_path):
    feeds = {name: np.ones((2, 4), np.float32) for name in "xy"}
    report = compare_runtimes(files.write(files.SUM_OF_TWO_TYPES, tmp_path), [feeds], "htp", soc="sm8750")
    assert [op.nodes for op in report.float_islands] == [("z",)]
    assert "SM8750" in report.device
    assert "1 op(s) in float though quantized in the file: ElementWiseAdd (f16) of z" in str(report)


def test_runtime_is_compared_with_another():
    batches = [{"x": IMAGES.numpy()}]
    report = compare_runtimes(digits.files("onnxruntime").onnx, batches, reference="onnxruntime")
    assert report.reference == "onnxruntime"
    assert [tensor.max_drift for tensor in report.tensors] == [0] * 26  # it is the same one
    assert report.tensors[0].op == "input"


def test_departure_of_an_output_that_is_not_quantized_is_found(tmp_path):
    x = torch.randn(16, 8)
    quantized = fxquant.quantize(torch.nn.Sequential(torch.nn.Linear(8, 8)), [x], target="onnxruntime").model
    files_of = fxquant.export(quantized, tmp_path)
    model = onnx.load(files_of.onnx)
    (stored,) = (tensor for tensor in model.graph.initializer if tensor.name == "0.weight")
    codes = onnx.numpy_helper.to_array(stored).copy()
    codes[0, 0] = 127 if codes[0, 0] < 0 else -127
    stored.CopyFrom(onnx.numpy_helper.from_array(codes, stored.name))
    onnx.save(model, files_of.onnx)
    report = fxquant.verify(quantized, files_of, [x])
    assert [(departure.name, departure.op) for departure in report.departures] == [("linear", "")]


def fixed_to_four(text):
    return text.replace("[N,", "[4,")


def test_batches_of_another_size_than_the_file_are_skipped_and_counted(tmp_path):
    path = files.write(fixed_to_four(files.SUM), tmp_path)
    batches = [{name: np.ones((rows, 4), np.float32) for name in "xy"} for rows in (4, 3)]
    report = compare_runtimes(path, batches)
    assert report.skipped == 1
    assert report.outputs[0].samples == 4
    assert "1 batch(es) not of the file's size" in str(report)
    with pytest.raises(BatchError, match="fixed to batches of 4"):
        compare_runtimes(path, batches[1:])


def test_unknown_runtime_and_option_are_refused():
    arguments = digits.quantized("onnxruntime"), digits.files("onnxruntime"), [IMAGES]
    with pytest.raises(OptionError, match="Did you mean 'onnxruntime'"):
        fxquant.verify(*arguments, runtime="onnxruntim")
    with pytest.raises(OptionError, match="option of runtime 'onnxruntime' 'soc'"):
        fxquant.verify(*arguments, soc="sm8650")
