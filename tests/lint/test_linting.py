import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import fxquant
from fxquant.errors import ModelFileError, ModelTypeError, OptionError
from fxquant.lint import RULES, Severity, rules_text
from fxquant.lint.graph import Graph
from tests import digits
from tests.lint import tensorrt_acceptance_cases as acceptance
from tests.lint import tensorrt_placement_cases as placement
from tests.lint.net import Net


def saved(model, folder, *, external=False):
    path = folder / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=external, size_threshold=64, location="weights")
    return path


def test_path_proto_and_ir_model_give_one_report(tmp_path):
    model = acceptance.unsigned()
    reports = [fxquant.lint(given) for given in (saved(model, tmp_path), model, ir.from_proto(model))]
    assert {str(report) for report in reports} == {str(reports[0])}
    assert reports[0].has_errors


def test_what_export_returns_is_taken():
    assert not fxquant.lint(digits.files("tensorrt")).has_errors


def test_model_given_is_not_modified(tmp_path):
    model = acceptance.bias_int32()
    before = model.SerializeToString(deterministic=True)
    fxquant.lint(model, fix=tmp_path / "fixed.onnx")
    assert model.SerializeToString(deterministic=True) == before


def test_external_weights_are_not_read(tmp_path, monkeypatch):
    path = saved(acceptance.bias_int32(), tmp_path, external=True)
    wanted = fxquant.lint(acceptance.bias_int32()).findings
    read = []
    monkeypatch.setattr(ir.ExternalTensor, "numpy", _recording(ir.ExternalTensor.numpy, read))
    found = fxquant.lint(path).findings
    assert [str(finding) for finding in found] == [str(finding) for finding in wanted]
    assert "w" not in read


def _recording(numpy, read):
    def record(tensor):
        read.append(tensor.name)
        return numpy(tensor)

    return record


def test_fixed_file_with_external_weights_is_whole(tmp_path):
    path = saved(acceptance.bias_int32(), tmp_path, external=True)
    fixed = tmp_path / "elsewhere" / "fixed.onnx"
    fixed.parent.mkdir()
    assert fxquant.lint(path, fix=fixed).fixed == {"A09": 1}
    assert onnx.load(str(fixed)).graph.initializer[0].raw_data
    assert not fxquant.lint(fixed).has_errors


def test_rules_can_be_ignored():
    assert fxquant.lint(acceptance.unsigned(), ignore=["A02"]).rules.isdisjoint({"A02"})


@pytest.mark.parametrize("content", [b"no model", b""])
def test_a_broken_file_is_named(content, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"broken\.onnx"):
        fxquant.lint(path)


def test_a_graph_that_is_none_is_a_model_file_error(tmp_path):
    model = acceptance.good()
    model.graph.node.append(model.graph.node[0])
    with pytest.raises(ModelFileError, match="not valid"):
        fxquant.lint(saved(model, tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="nowhere"):
        fxquant.lint(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param(lambda model: fxquant.lint(model, target="tensort"), OptionError, id="target"),
        pytest.param(lambda model: fxquant.lint(model, ignore=["A99"]), OptionError, id="rule"),
        pytest.param(lambda model: fxquant.lint(42), ModelTypeError, id="model"),
    ],
)
def test_what_does_not_exist_is_named(call, error):
    with pytest.raises(error):
        call(acceptance.good())


@pytest.mark.parametrize("target", ["tensorrt", "qualcomm"])
@pytest.mark.parametrize(
    "build", [acceptance.good, placement.attention, placement.transposed, placement.product]
)
def test_a_file_without_shapes_is_linted_as_far_as_it_goes(build, target):
    model = build()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    fxquant.lint(model, target=target)


def test_a_custom_operator_is_no_obstacle():
    net = Net()
    y = net.op("Mystery", net.pair(net.input(1, 16)), domain="some.vendor", name="mystery")
    fxquant.lint(net.build(y))
    fxquant.lint(net.build(y), target="qualcomm")


def test_nodes_of_subgraphs_are_linted():
    net = Net()
    x = net.input(1, 16)
    inner = Net()
    y = inner.pair(x, zero=3, name="inner_q")
    branch = inner.build(y).graph
    branch.ClearField("input")
    condition = net.const("yes", True)
    net.nodes.append(
        helper.make_node("If", [condition], ["out"], name="if", then_branch=branch, else_branch=branch)
    )
    report = fxquant.lint(net.build("out"))
    assert "inner_q" in {finding.node for finding in report.findings if finding.rule == "A01"}


def test_local_functions_are_looked_into():
    net = Net()
    x = net.input(1, 16)
    net.const("s", np.float32(0.1))
    net.const("z", 3, "s8")
    net.op("Codes", x, "s", "z", domain="own", name="codes")
    model = net.build(net.dq("codes", 0.1, 3))
    quantize = helper.make_node("QuantizeLinear", ["a", "b", "c"], ["d"])
    opset = [helper.make_opsetid("", 21)]
    model.functions.append(helper.make_function("own", "Codes", ["a", "b", "c"], ["d"], [quantize], opset))
    assert "A01" in fxquant.lint(model).rules


def test_findings_come_worst_first_and_count():
    report = fxquant.lint(acceptance.bias_int32())
    order = [finding.severity.value for finding in report.findings]
    assert order == sorted(order, key="EWI".index)
    assert report.summary().startswith(f"tensorrt: {len(report.of(Severity.ERROR))} error")


def test_finding_bears_the_layer_s_name():
    finding = next(f for f in fxquant.lint(digits.files("onnxruntime")).findings if f.rule == "A09")
    assert finding.tensor == "stem.bias"
    assert "stem.bias" in str(finding)


def test_the_table_of_rules_has_a_row_per_rule():
    text = rules_text(RULES)
    assert all(f"| {rule.id} |" in text for rules in RULES.values() for rule in rules)


def test_a_view_of_a_graph_tells_constants_behind_casts():
    net = Net()
    y = net.op("Cast", net.const("c", 0.5), to=TensorProto.FLOAT, name="cast")
    graph = Graph(ir.from_proto(net.build(net.op("Add", net.input(2), y, name="sum"))))
    node = next(iter(graph.of("Add")))
    assert graph.is_constant(node.inputs[1])
    assert not graph.is_constant(node.inputs[0])
