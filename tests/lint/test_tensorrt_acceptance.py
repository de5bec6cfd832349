import pytest

from fxquant.lint import RULES, lint_model
from tests.lint.tensorrt_acceptance_cases import ACCEPTANCE, good

CASES = [pytest.param(*case[:3], id=f"{case[0]}-{index}") for index, case in enumerate(ACCEPTANCE)]
GOOD = [pytest.param(case[0], case[3], id=f"{case[0]}-{index}") for index, case in enumerate(ACCEPTANCE)]


def found(model, rule):
    return [finding for finding in lint_model(model, "tensorrt").findings if finding.rule == rule]


@pytest.mark.parametrize(("rule", "build", "node"), CASES)
def test_rule_names_the_node_that_breaks_it(rule, build, node):
    assert node in {finding.node for finding in found(build(), rule)}


@pytest.mark.parametrize(("rule", "build"), GOOD)
def test_rule_is_silent_where_it_is_kept(rule, build):
    assert found(build(), rule) == []


def test_a_model_as_tensorrt_wants_it_has_no_error():
    assert not lint_model(good(), "tensorrt").has_errors


def test_every_acceptance_rule_that_a_file_tells_has_a_case():
    checked = {rule.id for rule in RULES["tensorrt"] if rule.id[0] == "A" and rule.check is not None}
    assert {case[0] for case in ACCEPTANCE} == checked
