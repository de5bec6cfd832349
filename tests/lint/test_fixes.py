import numpy as np
import onnx
import onnxruntime
import pytest

from fxquant.lint import RULES, lint_model
from tests.lint import tensorrt_acceptance_cases as acceptance
from tests.lint import tensorrt_placement_cases as placement
from tests.lint.htp import measure
from tests.lint.net import Net
from tests.lint.qualcomm_models import convolution


def unsigned_in_the_middle():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8), zero=128, code="u8", name="x_q")
    weight = net.stored("w", 16, 16, 3, 3, code="u8", zero=128)
    return net.build(net.op("Conv", x, weight, name="conv"))


def dead_channel():
    net = Net()
    scale = net.random.uniform(0.01, 0.02, 16)
    scale[3] = 0
    weight = net.stored("w", 16, 16, 3, 3, scale=scale)
    return net.build(net.op("Conv", net.pair(net.input(1, 16, 8, 8)), weight, name="conv"))


def no_stored_zero_point():
    net = Net()
    net.const("w", net.random.integers(-9, 9, (16, 16, 3, 3)), "s8")
    weight = net.dq("w", net.random.uniform(0.01, 0.02, 16), zero=None, name="w_dq", axis=0)
    return net.build(net.op("Conv", net.pair(net.input(1, 16, 8, 8)), weight, name="conv"))


def axis_from_the_back():
    net = Net()
    weight = net.stored("w", 16, 8, axis=-1)
    return net.build(net.op("MatMul", net.pair(net.input(32, 16)), weight, name="product"))


def repeated_around_relu():
    net = Net()
    y = acceptance.convolution(net, net.pair(net.input(1, 16, 8, 8)))
    return net.build(net.pair(net.op("Relu", net.pair(y, 0.1), name="act"), 0.1))


def chained_on_one_grid():
    net = Net()
    return net.build(acceptance.convolution(net, net.pair(net.pair(net.input(1, 16, 8, 8)))))


def equal_scales_per_channel():
    return placement.transposed(scale=np.full(16, 0.01))


def bias_at_another_scale():
    net, output = convolution("u16", bias="int32", factor=4.0)
    return net.build(output)


def bias_of_8_bits():
    net, output = convolution(bias="int8")
    return net.build(output)


FIXABLE = [
    pytest.param("A01", unsigned_in_the_middle, id="A01-zero-point-128"),
    pytest.param("A02", unsigned_in_the_middle, id="A02-uint8"),
    pytest.param("A03", no_stored_zero_point, id="A03"),
    pytest.param("A04", dead_channel, id="A04"),
    pytest.param("A07", acceptance.no_axis, id="A07-absent"),
    pytest.param("A07", axis_from_the_back, id="A07-negative"),
    pytest.param("A09", acceptance.bias_int32, id="A09-int32"),
    pytest.param("A09", acceptance.bias_int8, id="A09-int8"),
    pytest.param("P02", repeated_around_relu, id="P02"),
    pytest.param("P10", placement.two_quantizers, id="P10"),
    pytest.param("P17", placement.attention, id="P17"),
    pytest.param("P20", equal_scales_per_channel, id="P20"),
    pytest.param("P25", chained_on_one_grid, id="P25"),
    pytest.param("QNN-14", bias_at_another_scale, id="QNN-14-scale"),
    pytest.param("QNN-14", bias_of_8_bits, id="QNN-14-int8"),
]


def outputs(model):
    """What the model computes, exactly as ONNX says it: nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    feeds = {i.name: (random.standard_normal(i.shape) * 3).astype(np.float32) for i in session.get_inputs()}
    return session.run(None, feeds)


@pytest.mark.parametrize(("rule", "build"), FIXABLE)
def test_fixed_file_computes_the_same_and_keeps_the_rule(rule, build, tmp_path):
    model, path = build(), tmp_path / "fixed.onnx"
    target = "qualcomm" if rule.startswith("QNN") else "tensorrt"
    assert any(f.rule == rule and f.is_fixable for f in lint_model(model, target).findings)
    report = lint_model(model, target, fix=path)
    assert sum(report.fixed.values()) > 0
    assert rule not in report.rules
    assert report.fixed_file == path
    before, after = outputs(model.SerializeToString()), outputs(str(path))
    np.testing.assert_array_equal(after[0], before[0])


def test_every_fix_has_a_case():
    fixing = {rule.id for rules in RULES.values() for rule in rules if rule.fix is not None}
    assert {case.values[0] for case in FIXABLE} == fixing


@pytest.mark.parametrize(
    "build",
    [
        acceptance.unsigned,
        acceptance.zero_point,
        acceptance.negative_scale,
        placement.activation,
        placement.chained,
    ],
)
def test_what_cannot_be_repaired_exactly_is_left_alone(build, tmp_path):
    model, path = build(), tmp_path / "fixed.onnx"
    before = lint_model(model, "tensorrt")
    report = lint_model(model, "tensorrt", fix=path)
    assert report.fixed == {}
    assert report.findings == before.findings
    np.testing.assert_array_equal(outputs(str(path))[0], outputs(model.SerializeToString())[0])


def test_a_quantizer_that_is_uint8_by_default_is_not_called_int8(tmp_path):
    report = lint_model(acceptance.no_zero_point(), "tensorrt", fix=tmp_path / "fixed.onnx")
    assert {finding.tensor for finding in report.findings if finding.rule == "A03"} == {"x_q", "x_q_dq1"}


def test_fixing_twice_changes_nothing(tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    lint_model(unsigned_in_the_middle(), "tensorrt", fix=first)
    assert lint_model(first, "tensorrt", fix=second).fixed == {}


@pytest.mark.htp
@pytest.mark.parametrize("options", [{"code": "u16", "bias": "int32", "factor": 4.0}, {"bias": "int8"}])
def test_htp_computes_a_fixed_bias_as_it_should(options, tmp_path):
    net, output = convolution(**options)
    path = tmp_path / "fixed.onnx"
    lint_model(net.build(output), "qualcomm", fix=path)
    kind, steps = measure(net, onnx.load(str(path)))
    assert kind == "integer"
    assert steps <= 2  # as with a bias that was right from the start
