"""enable_onnx_export: what torch.onnx.export makes of TensorQuantizers, run in ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fxquant.compat.pytorch_quantization import enable_onnx_export
from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from fxquant.errors import ExportError
from tests.compat.pytorch_quantization.exported import (
    EXPORTERS,
    calibrated,
    constants,
    export,
    network,
    nodes,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

exporters = pytest.mark.parametrize("exporter", EXPORTERS)
dtypes = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
E4M3 = (4, 3)


@pytest.fixture
def _fb_fake_quant() -> Iterator[None]:
    TensorQuantizer.use_fb_fake_quant = True
    yield
    TensorQuantizer.use_fb_fake_quant = False


@exporters
@pytest.mark.parametrize("folds", [True, False], ids=["folding", "no-folding"])
@pytest.mark.parametrize(
    "options", [{"axis": 0}, {}, {"unsigned": True}], ids=["per-channel", "per-tensor", "unsigned"]
)
def test_a_file_gives_what_the_simulation_gives(
    options: dict[str, object], folds: bool, exporter: str
) -> None:
    model, x = calibrated(**options)
    with enable_onnx_export():
        proto = export(model, x, exporter, do_constant_folding=folds)
    _close(proto, model, x)
    assert {opset.domain: opset.version for opset in proto.opset_import}[""] == 17
    assert len(nodes(proto, "QuantizeLinear")) == len(nodes(proto, "DequantizeLinear")) == 6


@exporters
def test_scales_are_constants_of_amax_over_the_highest_code(exporter: str) -> None:
    model, x = calibrated(axis=0, unsigned=True)
    with enable_onnx_export():
        proto = export(model, x, exporter)
    found = constants(proto)
    layer = model[0]
    by_type = {}
    for node in nodes(proto, "QuantizeLinear")[:2]:
        scale, zero_point = (found[name] for name in node.input[1:])
        assert not zero_point.any()
        by_type[str(zero_point.dtype)] = scale, [a.i for a in node.attribute if a.name == "axis"]
    scale, axis = by_type["uint8"]
    assert scale == np.float32(layer._input_quantizer.amax / 255)
    assert axis in ([], [1])
    scale, axis = by_type["int8"]
    np.testing.assert_array_equal(scale, (layer._weight_quantizer.amax / 127).reshape(-1))
    assert axis == [0]


@exporters
def test_an_amax_of_zero_becomes_a_scale_of_one(exporter: str) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(amax=[[0.0], [1.27], [0.0]], axis=0))
    x = torch.zeros(3, 4)
    proto = export(quantizer, x, exporter)
    scale = constants(proto)[nodes(proto, "QuantizeLinear")[0].input[1]]
    np.testing.assert_array_equal(scale, np.float32([1.0, np.float32(1.27) / np.float32(127), 1.0]))
    np.testing.assert_array_equal(run(proto, x), quantizer(x))


@exporters
@pytest.mark.parametrize(
    "shape", [(5, 1, 1), (1, 5, 1), (1, 1, 5), (5,)], ids=["first", "middle", "last", "vector"]
)
def test_the_axis_is_that_of_the_dimension_with_several_amax(shape: tuple[int, ...], exporter: str) -> None:
    axis = shape.index(5)
    amax = torch.linspace(0.5, 2, 5).reshape(shape).numpy()
    quantizer = TensorQuantizer(QuantDescriptor(amax=amax, axis=axis))
    x = torch.randn([5] * len(shape), generator=torch.Generator().manual_seed(0))
    proto = export(quantizer, x, exporter)
    step = float(amax.max()) / 127
    np.testing.assert_allclose(run(proto, x), quantizer(x), rtol=0, atol=step * 1.001)
    differ = np.mean(np.abs(run(proto, x) - quantizer(x).numpy()) > step / 100)
    assert differ < 0.01  # one step of a rare middle between two codes


@exporters
@dtypes
def test_half_inputs_are_cast_to_float32_and_back(dtype: torch.dtype, exporter: str) -> None:
    model, x = calibrated(dtype)
    with enable_onnx_export():
        proto = export(model, x, exporter, do_constant_folding=False)
    made = {output: node for node in proto.graph.node for output in node.output}
    read = {name: node for node in proto.graph.node for name in node.input}
    for node in nodes(proto, "DequantizeLinear"):
        assert read[node.output[0]].op_type == "Cast"
        quantize = made[node.input[0]]
        assert quantize.op_type == "QuantizeLinear"
        source = made.get(quantize.input[0])  # the current exporter casts constants itself
        assert source is None or source.op_type == "Cast"


@exporters
def test_float16_runs_as_simulated(exporter: str) -> None:
    model, x = calibrated(torch.float16)
    with enable_onnx_export():
        proto = export(model, x, exporter)
    _close(proto, model, x)


@exporters
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16],
    ids=["float32", "float16", "bfloat16"],
)
def test_e4m3_becomes_the_operators_of_tensorrt(dtype: torch.dtype, exporter: str) -> None:
    model, x = calibrated(dtype, num_bits=E4M3)
    with enable_onnx_export():
        proto = export(model, x, exporter)
    quantize = nodes(proto, "TRT_FP8QuantizeLinear")
    assert len(quantize) == len(nodes(proto, "TRT_FP8DequantizeLinear")) == 6
    assert {node.domain for node in quantize} == {"trt"}
    scales = {float(constants(proto)[node.input[1]]) for node in quantize}
    amaxes = [module.amax for module in model.modules() if isinstance(module, TensorQuantizer)]
    assert scales == {float(np.float32(amax.float() / 448)) for amax in amaxes}


@exporters
@pytest.mark.usefixtures("_fb_fake_quant")
@pytest.mark.parametrize("options", [{"axis": 0}, {"unsigned": True}], ids=["per-channel", "unsigned"])
def test_use_fb_fake_quant_exports_in_the_same_form(options: dict[str, object], exporter: str) -> None:
    model, x = calibrated(**options)
    proto = export(model, x, exporter, opset_version=13 if exporter == "torchscript" else 18)
    _close(proto, model, x)
    assert len(nodes(proto, "QuantizeLinear")) == 6


@exporters
def test_an_export_to_a_path(exporter: str, tmp_path: Path) -> None:
    model, x = calibrated()
    with enable_onnx_export():
        torch.onnx.export(
            model, (x,), str(tmp_path / "model.onnx"), input_names=["input"], **EXPORTERS[exporter]
        )
    _close(onnx.load(str(tmp_path / "model.onnx")), model, x)


@exporters
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda q: q.__delattr__("_amax"), "has no amax"),
        (lambda q: q.enable_calib(), "still calibrating"),
        (lambda q: setattr(q, "num_bits", 4), "not num_bits=4"),
        (lambda q: setattr(q, "narrow_range", True), "narrow range"),
        (lambda q: setattr(q, "_fake_quant", False), "returns codes"),
    ],
    ids=["dynamic", "calibrating", "4-bit", "narrow", "codes"],
)
def test_a_quantizer_that_is_not_ready_is_named(
    break_it: object, message: str, exporter: str, tmp_path: Path
) -> None:
    model, x = calibrated()
    break_it(model[2]._input_quantizer)
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=message) as caught, enable_onnx_export():
        torch.onnx.export(model, (x,), str(path), **EXPORTERS[exporter])
    assert caught.value.layer == "2._input_quantizer"
    assert not path.exists()
    assert not TensorQuantizer._enable_onnx_export


@exporters
def test_e4m3_takes_one_scale_per_tensor(exporter: str) -> None:
    model, x = calibrated(num_bits=E4M3, axis=0)
    with pytest.raises(ExportError, match="E4M3 has no form") as caught, enable_onnx_export():
        export(model, x, exporter)
    assert caught.value.layer == "0._weight_quantizer"


@exporters
def test_a_disabled_quantizer_leaves_no_trace(exporter: str) -> None:
    model, x = network(), torch.randn(4, 16)
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.disable()
    with enable_onnx_export():
        proto = export(model, x, exporter)
    assert not nodes(proto, "QuantizeLinear")
    np.testing.assert_allclose(run(proto, x), model(x).detach(), rtol=1e-5, atol=1e-6)


@exporters
def test_a_learned_range_is_exported(exporter: str) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(learn_amax=True, amax=1.5))
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with enable_onnx_export():
        proto = export(quantizer, x, exporter)
    np.testing.assert_allclose(run(proto, x), quantizer(x).detach(), rtol=0, atol=1.5 / 127 * 1e-3)


@exporters
def test_a_weight_needs_no_calibration(exporter: str) -> None:
    model, x = calibrated(axis=0)
    for layer in model:
        if not isinstance(layer, nn.ReLU):
            del layer._weight_quantizer._amax
    with enable_onnx_export():
        _close(export(model, x, exporter), model, x)


def test_the_flag_is_put_back_after_any_error() -> None:
    with pytest.raises(KeyError, match="mine"), enable_onnx_export():
        _fail_in_the_context()
    assert not TensorQuantizer._enable_onnx_export


def test_a_simulation_in_the_context_is_a_simulation() -> None:
    model, x = calibrated()
    expected = model(x)
    with enable_onnx_export():
        assert torch.equal(model(x), expected)


def _fail_in_the_context() -> None:
    assert TensorQuantizer._enable_onnx_export
    raise KeyError("mine")


def _close(proto: onnx.ModelProto, model: nn.Module, x: torch.Tensor) -> None:
    """Hold a file to the tolerance of NVIDIA's own test, one step of the last layer's input and weight."""
    with torch.no_grad():
        expected = model(x)
    np.testing.assert_allclose(run(proto, x), expected, atol=1e-2, rtol=1e-2)
