"""What fxquant exports for a target breaks no rule of it, but for those that the model or the plan forces."""

import numpy as np
import onnx
import pytest
import torch

import fxquant
from fxquant.lint import Severity
from tests import digits, networks
from tests.lint.htp import run
from tests.zoo.architectures import build

NETWORKS = sorted(networks.cases())
ARCHITECTURES = (
    "timm/resnet18",
    "timm/mobilenetv2_100",
    "timm/efficientnet_b0",
    "timm/vit_tiny_patch16_224",
    "transformers/bert",
)


def broken(report):
    return {finding.rule for finding in report.findings if finding.severity is not Severity.INFO}


def exported(model, example, folder, target="tensorrt", **options):
    prepared = fxquant.prepare(model, example, target=target)
    fxquant.calibrate(prepared, [example])
    return fxquant.export(fxquant.convert(prepared), folder, **options)


def test_digits_for_tensorrt():
    report = fxquant.lint(digits.files("tensorrt"))
    assert broken(report) == {"P23"}  # float32 around its integers, as long as nobody asks for float16


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", ":fp8", ":w4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_for_tensorrt_in_float16(name, scheme, tmp_path):
    model, batch = networks.cases()[name]
    files = exported(model, batch, tmp_path, f"tensorrt{scheme}", float_type=torch.float16)
    assert broken(fxquant.lint(files)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_for_tensorrt(name, tmp_path):
    model, (args, kwargs) = build(name)
    if "vit" not in name:  # small images
        args = tuple(x[..., :64, :64] if x.dim() == 4 else x for x in args)
    with torch.no_grad():
        report = fxquant.lint(exported(model, kwargs or args, tmp_path, float_type=torch.float16))
    assert broken(report) == set()


def with_fixed_sizes(path, rows):
    """The model of a file whose first dimensions are fixed, as HTP wants them."""
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = rows
    return model


def arrays(model, batch):
    tensors = batch if isinstance(batch, dict) else {model.graph.input[0].name: batch}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.htp
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_htp_refuses_a_network_where_there_is_an_error_and_computes_in_float_where_there_is_a_warning(
    name, tmp_path
):
    float_model, batch = networks.cases()[name]
    path = exported(float_model, batch, tmp_path, "onnxruntime").onnx
    model = with_fixed_sizes(path, len(next(iter(batch.values())) if isinstance(batch, dict) else batch))
    report = fxquant.lint(model, target="qualcomm")
    expected = "refused" if report.has_errors else "float" if broken(report) else "integer"
    assert run(model, arrays(model, batch))[0] == expected


@pytest.mark.htp
def test_digits_whose_output_is_quantized_runs_on_integers_on_htp_and_breaks_no_rule():
    model = with_fixed_sizes(digits.files("onnxruntime").onnx, 1)
    assert fxquant.lint(model, target="qualcomm").rules == {"QNN-2"}  # the output is float
    output = model.graph.output.pop().name
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.2), "s"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(128), "z"))
    model.graph.node.append(onnx.helper.make_node("QuantizeLinear", [output, "s", "z"], ["q"]))
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    assert fxquant.lint(model, target="qualcomm").findings == ()
    assert run(model, arrays(model, digits.split().test_images[:1]))[0] == "integer"
