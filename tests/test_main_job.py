import json

import numpy as np
import onnx
import pytest
import torch

from fxquant.runtimes import OnnxRuntime
from tests import digits

FLOAT_BYTES = sum(p.numel() * 4 for p in digits.float_model().parameters())
QUANTIZED_OPS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "GlobalAveragePool", "Concat")


def accuracy(logits):
    return float(np.mean(logits.argmax(1) == digits.split().test_labels.numpy()))


def run_file(path):
    session = OnnxRuntime(path)  # exact on every processor, see fxquant/runtimes/onnxruntime.py
    return session.run({session.inputs[0]: digits.split().test_images.numpy()})[session.outputs[0]]


def producers(graph):
    return {output: node for node in graph.node for output in node.output}


@pytest.mark.parametrize("target", digits.TARGETS)
def test_deployed_accuracy_is_within_half_a_point_of_float(target):
    with torch.no_grad():
        reference = accuracy(digits.float_model()(digits.split().test_images).numpy())
    assert abs(accuracy(run_file(digits.files(target).onnx)) - reference) <= 0.005


@pytest.mark.parametrize("target", digits.TARGETS)
def test_simulation_and_runtime_agree_on_every_held_out_image(target):
    (output,) = digits.parity(target).outputs
    assert (output.same_top1, output.samples) == (599, 599)


@pytest.mark.parametrize("target", digits.TARGETS)
def test_no_op_is_off_by_more_than_one_step_when_fed_the_runtimes_inputs(target):
    report = digits.parity(target)
    assert report.unmatched == ()
    assert report.max_steps <= 1


@pytest.mark.parametrize("target", digits.TARGETS)
def test_every_quantized_op_reads_dequantized_tensors(target):
    graph = onnx.load(digits.files(target).onnx).graph
    made_by = producers(graph)
    off_grid = [
        (node.op_type, made_by[name].op_type)
        for node in graph.node
        if node.op_type in QUANTIZED_OPS
        for name in node.input
        if name in made_by and made_by[name].op_type != "DequantizeLinear"
    ]
    # P04: one branch fuses and stays float; P12: ten columns are too few, so the head stays float, P07: and
    # the pool before it
    floats = [("Add", "Conv"), ("GlobalAveragePool", "Relu"), ("Gemm", "Reshape")]
    assert off_grid == (floats if target == "tensorrt" else [])
    assert {node.op_type for node in graph.node} >= {
        "Conv",
        "Gemm",
        "Add",
        "Mul",
        "GlobalAveragePool",
        "Concat",
    }


@pytest.mark.parametrize("target", digits.TARGETS)
def test_file_is_at_most_three_tenths_of_the_float_weights(target):
    assert digits.files(target).onnx.stat().st_size <= 0.30 * FLOAT_BYTES


@pytest.mark.parametrize("target", digits.TARGETS)
def test_weights_are_stored_as_int8_and_only_dequantized(target):
    graph = onnx.load(digits.files(target).onnx).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = {name: dtype for name, dtype in stored.items() if name.endswith(".weight")}
    quantized_constants = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in stored]
    head = weights.pop("head.weight")
    assert head == (onnx.TensorProto.FLOAT if target == "tensorrt" else onnx.TensorProto.INT8)  # P12
    assert set(weights.values()) == {onnx.TensorProto.INT8}
    assert len(weights) == 13
    assert quantized_constants == []


def test_tensorrt_file_has_zero_points_of_zero_and_float_biases():
    graph = onnx.load(digits.files("tensorrt").onnx).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    zero_points = [
        stored[n.input[2]] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert {str(array.dtype) for array in zero_points} == {"int8"}
    assert not any(array.any() for array in zero_points)
    assert {stored[name].dtype.name for name in stored if name.endswith(".bias")} == {"float32"}


def test_onnxruntime_biases_have_the_scale_of_input_times_weight():
    graph = onnx.load(digits.files("onnxruntime").onnx).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = producers(graph)
    for node in (n for n in graph.node if n.op_type in ("Conv", "Gemm")):
        scales = [stored[made_by[name].input[1]] for name in node.input]
        assert np.array_equal(scales[2], scales[0] * scales[1].reshape(-1))


@pytest.mark.parametrize("target", digits.TARGETS)
def test_encodings_name_tensors_of_the_file_and_hold_its_numbers(target):
    graph = onnx.load(digits.files(target).onnx).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    document = json.loads(digits.files(target).encodings.read_text())
    entries = {entry["name"]: entry for entry in document["activation_encodings"]}
    quantizers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    assert document["version"] == "1.0.0"
    assert entries.keys() == quantizers.keys()
    for name, node in quantizers.items():
        scale, zero_point = stored[node.input[1]], stored[node.input[2]]
        shift = 128 if zero_point.dtype == np.int8 else 0
        assert np.float32(entries[name]["scale"][0]) == scale
        assert entries[name]["offset"] == [-int(zero_point) - shift]


@pytest.mark.parametrize("target", digits.TARGETS)
def test_batch_dimension_is_dynamic(target):
    graph = onnx.load(digits.files(target).onnx).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert run_file(digits.files(target).onnx).shape == (599, 10)
