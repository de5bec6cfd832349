import pytest

from fxquant.lint import Severity, lint_model
from tests.lint.htp import measure
from tests.lint.qualcomm_cases import CASES

WORST = {"wrong": Severity.ERROR, "refused": Severity.ERROR, "float": Severity.WARNING}
ALL = [pytest.param(*case[:2], case[3], id=case[2]) for case in CASES]
BROKEN = [param for param in ALL if param.values[0] != "right"]
RIGHT = [param for param in ALL if param.values[0] == "right"]
STEPS = {"u8": 4, "u16": 40}  # two roundings to 8 bits; 16-bit tables are about as exact as fp16
WRONG_FROM = {"u8": 8, "u16": 100}


@pytest.mark.parametrize(("outcome", "rule", "build"), BROKEN)
def test_rule_finds_what_htp_refuses_gets_wrong_or_computes_in_float(outcome, rule, build):
    net, output = build()
    findings = lint_model(net.build(output), "qualcomm").findings
    assert (rule, WORST[outcome]) in {(finding.rule, finding.severity) for finding in findings}


@pytest.mark.parametrize(("outcome", "rule", "build"), [p for p in BROKEN if p.values[0] == "float"])
def test_a_float_island_is_no_error(outcome, rule, build):
    net, output = build()
    assert not lint_model(net.build(output), "qualcomm").has_errors


@pytest.mark.parametrize(("outcome", "rule", "build"), RIGHT)
def test_what_htp_computes_as_it_should_is_not_found(outcome, rule, build):
    net, output = build()
    report = lint_model(net.build(output), "qualcomm")
    assert [finding for finding in report.findings if finding.severity is not Severity.INFO] == []


@pytest.mark.htp
@pytest.mark.parametrize(("outcome", "rule", "build"), ALL)
def test_the_simulator_does_what_the_case_says(outcome, rule, build):
    net, output = build()
    model = net.build(output)
    kind, steps = measure(net, model)
    code = "u16" if any(t.data_type == 4 for t in model.graph.initializer) else "u8"
    if outcome == "refused":
        assert kind == "refused"
    elif outcome == "float":
        assert kind == "float"
    elif outcome == "wrong":
        assert kind != "refused"
        assert steps >= WRONG_FROM[code]
    else:
        assert kind == "integer"
        assert steps <= STEPS[code]
