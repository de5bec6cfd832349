"""Forms of the exported file: opsets, weights of few bits and in blocks, lookups, Gemm, plain models."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import ExportError
from fxquant.runtimes import OnnxRuntime
from tests import digits


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.norm = nn.LayerNorm(64)
        self.up = nn.Linear(64, 96)
        self.down = nn.Linear(96, 64)

    def forward(self, ids):
        return self.down(torch.relu(self.up(self.norm(self.embed(ids)))))


IDS = torch.arange(48).reshape(4, 12)


def quantized(target, model=None, inputs=IDS):
    torch.manual_seed(0)
    prepared = fxquant.prepare((model or Tokens()).eval(), inputs, target=target)
    fxquant.calibrate(prepared, [inputs])
    return fxquant.convert(prepared)


def ops(path):
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def stored(path):
    return {tensor.name: tensor for tensor in onnx.load(str(path)).graph.initializer}


def opset(path):
    return onnx.load(str(path)).opset_import[0].version


def test_weights_alone_are_stored_in_four_bits_by_block(tmp_path):
    model = quantized("onnxruntime:w4")
    files = fxquant.export(model, tmp_path)
    weight = stored(files.onnx)["up.weight"]
    assert (weight.data_type, list(weight.dims)) == (onnx.TensorProto.INT4, [64, 96])
    assert list(stored(files.onnx)["up.weight_scale"].dims) == [2, 96]
    assert "QuantizeLinear" not in ops(files.onnx)
    assert opset(files.onnx) == 21


def test_four_bit_blocks_run_as_they_are_simulated(tmp_path):
    model = quantized("onnxruntime:w4")
    files = fxquant.export(model, tmp_path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(files.onnx), options)
    (ran,) = session.run(None, {"ids": IDS.numpy()})
    simulated = model(IDS).detach().numpy()
    bound = 64 * 2**-23 * np.abs(simulated).max()  # order of the sums alone
    assert np.abs(ran - simulated).max() <= bound


def test_lpbq_weights_are_stored_as_codes_multiples_and_one_scale_per_channel(tmp_path):
    model = quantized("qualcomm:w4a16-lpbq")
    files = fxquant.export(model, tmp_path)
    constants = stored(files.onnx)
    assert constants["up.weight"].data_type == onnx.TensorProto.INT4
    assert constants["up.weight_scale_q"].data_type == onnx.TensorProto.UINT8
    multiples = onnx.numpy_helper.to_array(constants["up.weight_scale_q"])
    assert multiples.min() >= 1
    assert multiples.max() == 16
    assert fxquant.verify(model, files, [IDS]).max_steps <= 1


def test_a_lookup_picks_codes_and_scales_by_row(tmp_path):
    files = fxquant.export(quantized("onnxruntime"), tmp_path)
    table = stored(files.onnx)["embed.weight"]
    assert (table.data_type, list(table.dims)) == (onnx.TensorProto.INT8, [50, 64])
    assert ops(files.onnx)[:4] == ["Gather", "Cast", "Gather", "Mul"]


def test_linear_layers_on_several_dimensions_become_gemm_with_an_integer_bias(tmp_path):
    model = quantized("onnxruntime")
    files = fxquant.export(model, tmp_path)
    assert ops(files.onnx).count("Gemm") == 2
    assert "MatMul" not in ops(files.onnx)
    assert stored(files.onnx)["up.bias"].data_type == onnx.TensorProto.INT32
    report = fxquant.verify(model, files, [IDS])
    assert (report.max_steps, report.unmatched) == (0, ())
    tensors = {name for node in onnx.load(str(files.onnx)).graph.node for name in node.output}
    entries = json.loads(files.encodings.read_text())["activation_encodings"]
    assert {entry["name"] for entry in entries} <= tensors | {"ids"}


def test_a_file_for_tensorrt_keeps_the_product_and_its_float_bias(tmp_path):
    files = fxquant.export(quantized("tensorrt"), tmp_path)
    assert "Gemm" not in ops(files.onnx)
    assert stored(files.onnx)["up.bias"].data_type == onnx.TensorProto.FLOAT


def test_a_file_for_qualcomm_has_fixed_sizes(tmp_path):
    files = fxquant.export(quantized("qualcomm"), tmp_path)
    (ids,) = onnx.load(str(files.onnx)).graph.input
    assert [dim.dim_value for dim in ids.type.tensor_type.shape.dim] == [4, 12]


def test_an_opset_is_taken_where_it_says_everything(tmp_path):
    files = fxquant.export(quantized("onnxruntime"), tmp_path, opset=20)
    assert opset(files.onnx) == 20


def test_an_opset_that_has_no_form_for_a_weight_is_refused_by_name(tmp_path):
    with pytest.raises(ExportError, match=r"Opset 19 has no form for int4 of '(up|down)\.weight'") as error:
        fxquant.export(quantized("onnxruntime:w4"), tmp_path, opset=19)
    assert "opset 21" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_model_has_no_quantizers_and_the_names_of_the_encodings(tmp_path):
    model = quantized("qualcomm")
    files = fxquant.export(model, tmp_path, has_quantizers=False, encodings_version="1.0.0")
    graph = onnx.load(str(files.onnx)).graph
    document = json.loads(files.encodings.read_text())
    tensors = {value.name for value in graph.input} | {name for node in graph.node for name in node.output}
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(ops(files.onnx))
    assert {entry["name"] for entry in document["activation_encodings"]} <= tensors | set(stored(files.onnx))
    assert {entry["name"] for entry in document["param_encodings"]} <= set(stored(files.onnx))


def test_the_weights_of_a_plain_model_lie_on_their_grids(tmp_path):
    model = quantized("tensorrt", nn.Sequential(nn.Conv2d(3, 8, 3)), torch.randn(2, 3, 8, 8))
    plain = stored(fxquant.export(model, tmp_path, has_quantizers=False).onnx)
    layer = model.get_submodule("0")
    real = layer.param_quantizers["weight"](layer.weight)
    assert np.array_equal(onnx.numpy_helper.to_array(plain["0.weight"]), real.numpy())


@pytest.mark.parametrize("target", digits.TARGETS)
def test_weights_in_a_file_of_their_own_give_the_same_outputs(target, tmp_path):
    images = digits.split().test_images[:8]
    one = digits.files(target).onnx
    files = fxquant.export(digits.quantized(target), tmp_path, external_data=True)
    (data,) = tmp_path.glob("model.onnx.*.data")
    assert data.stat().st_size > 10 * files.onnx.stat().st_size / 100
    outputs = [OnnxRuntime(path).run({"x": images.numpy()}) for path in (one, files.onnx)]
    assert all(np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])
