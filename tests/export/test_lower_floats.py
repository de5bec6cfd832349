"""The float remainder in float16: types, casts, and that it computes what the float32 file computes."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import ExportError, OptionError
from fxquant.runtimes import OnnxRuntime
from tests import digits, networks

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
UNIT = 2.0**-11  # largest relative error of rounding to float16


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(32, 16)

    def forward(self, x):
        return self.fc(x)


def quantized(model, batch, target="tensorrt"):
    prepared = fxquant.prepare(model.eval(), batch, target=target)
    fxquant.calibrate(prepared, [batch])
    return fxquant.convert(prepared)


def half(model, folder, **options):
    return fxquant.export(model, folder, float_type=torch.float16, **options)


def types(values):
    return {value.name: value.type.tensor_type.elem_type for value in values}


def casts(graph):
    return [node for node in graph.node if node.op_type == "Cast"]


def test_every_float_constant_is_float16_and_only_inputs_and_outputs_are_cast(tmp_path):
    graph = onnx.load(half(digits.quantized("tensorrt"), tmp_path).onnx).graph
    assert FLOAT not in {tensor.data_type for tensor in graph.initializer}
    assert {*types(graph.input).values(), *types(graph.output).values()} == {FLOAT}
    assert [node.input[0] for node in casts(graph)][:1] == [graph.input[0].name]
    assert [node.output[0] for node in casts(graph)][1:] == [graph.output[0].name]


def test_inputs_and_outputs_are_float16_on_request(tmp_path):
    graph = onnx.load(half(digits.quantized("tensorrt"), tmp_path, keeps_io=False).onnx).graph
    assert {*types(graph.input).values(), *types(graph.output).values()} == {HALF}
    assert casts(graph) == []


def test_what_takes_float32_only_keeps_it(tmp_path):
    model, batch = networks.cases()["unet"]
    graph = onnx.load(half(quantized(model, batch), tmp_path).onnx).graph
    (resize,) = [node for node in graph.node if node.op_type == "Resize"]
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT}
    assert floats == {resize.input[2]}  # its scales


def test_a_layer_in_float16_is_within_its_roundings_of_float32(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(64, 32)
    model = quantized(Layer(), x)
    files = [fxquant.export(model, tmp_path / "float32"), half(model, tmp_path / "float16")]
    wanted, given = (OnnxRuntime(file.onnx).run({"x": x.numpy()})["linear"] for file in files)
    scale = model.get_submodule("quantizers.x").get_encodings().scale.double()
    grid = model.get_submodule("quantizers.x")(x).double()
    weight = model.fc.quantized_parameter("weight").detach().double()
    bias = model.fc.bias.detach().double()
    real = x.double() / scale
    # x and scale are rounded, so x / scale is off by up to 127 * 2 roundings: enough to pass a tie near by
    crosses = ((real - real.floor() - 0.5).abs() <= 127 * 2.01 * UNIT).double()
    x_error, weight_error = crosses * scale + 2.01 * UNIT * grid.abs(), 2.01 * UNIT * weight.abs()
    products = x_error @ weight.abs().T + (grid.abs() + x_error) @ weight_error.T
    sums = 32 * 2.0**-23 * (grid.abs() @ weight.abs().T)  # both add up in float32
    bound = products + sums + UNIT * (bias.abs() + torch.from_numpy(wanted).abs() + products)
    assert np.all(np.abs(given - wanted) <= bound.numpy())


def test_a_float16_file_is_verified_against_its_simulation(tmp_path):
    model = digits.quantized("tensorrt")
    report = fxquant.verify(model, half(model, tmp_path), digits.split().test_images.split(200))
    (output,) = report.outputs
    assert report.max_steps <= 1  # 127 * 2 roundings of float16 are an eighth of a step
    assert output.top1_agreement >= 0.995  # half a point, as the deployed accuracy of tests/test_main_job.py


def test_masks_become_the_lowest_float16(tmp_path):
    class Masked(Layer):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, torch.finfo(torch.float32).min]).repeat(8))

        def forward(self, x):
            return torch.softmax(self.fc(x) + self.mask, -1)

    files = half(quantized(Masked(), torch.randn(4, 32)), tmp_path)
    arrays = [onnx.numpy_helper.to_array(t) for t in onnx.load(files.onnx).graph.initializer]
    assert min(array.min() for array in arrays if array.dtype == np.float16) == np.finfo(np.float16).min


def test_scale_of_a_channel_of_zeros_stays_above_zero(tmp_path):
    model = Layer()
    model.fc.weight.data[3] = 0.0
    files = half(quantized(model, torch.randn(4, 32), "tensorrt:fp8"), tmp_path)
    assert not fxquant.lint(files).has_errors  # A04


def test_constant_that_float16_cannot_hold_is_named(tmp_path):
    class Shifted(Layer):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.tensor(1e6))

        def forward(self, x):
            return self.fc(x) + self.shift

    with pytest.raises(ExportError, match="1e"):
        half(quantized(Shifted(), torch.randn(4, 32)), tmp_path)


def test_opset_before_float16_scales_is_refused(tmp_path):
    with pytest.raises(ExportError, match="opset 19"):
        half(quantized(Layer(), torch.randn(4, 32)), tmp_path, opset=18)


def test_other_float_types_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"torch\.float64"):
        fxquant.export(quantized(Layer(), torch.randn(4, 32)), tmp_path, float_type=torch.float64)
