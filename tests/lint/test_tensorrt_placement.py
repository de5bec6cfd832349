import pytest

from fxquant.lint import RULES, lint_model
from tests.lint.tensorrt_placement_cases import PLACEMENT, residual, two_branches

CASES = [pytest.param(*case[:3], id=f"{case[0]}-{index}") for index, case in enumerate(PLACEMENT)]
GOOD = [pytest.param(case[0], case[3], id=f"{case[0]}-{index}") for index, case in enumerate(PLACEMENT)]


def found(model, rule):
    return [finding for finding in lint_model(model, "tensorrt").findings if finding.rule == rule]


@pytest.mark.parametrize(("rule", "build", "node"), CASES)
def test_rule_names_the_node_that_breaks_it(rule, build, node):
    assert node in {finding.node for finding in found(build(), rule)}


@pytest.mark.parametrize(("rule", "build"), GOOD)
def test_rule_is_silent_where_it_is_kept(rule, build):
    assert found(build(), rule) == []


@pytest.mark.parametrize("build", [residual, two_branches])
def test_a_block_as_tensorrt_fuses_it_breaks_no_rule_about_adds(build):
    assert lint_model(build(), "tensorrt").rules.isdisjoint({"P04", "P05", "P07", "P10", "P25"})


def test_every_placement_rule_that_a_file_tells_has_a_case():
    checked = {rule.id for rule in RULES["tensorrt"] if rule.id[0] == "P" and rule.check is not None}
    assert {case[0] for case in PLACEMENT} == checked
