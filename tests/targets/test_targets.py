"""Targets: their rules speak of known ops, once each, and say why."""

import copy
import pickle

import pytest

from fxquant.errors import OptionError
from fxquant.ops import TABLE, op_named
from fxquant.passes import CATALOGUE, prepare_pipeline
from fxquant.quantization import QuantizationSpec
from fxquant.targets import TARGETS, BiasHandling, OutputRule, Placement, Rule, Target, get_target

EVERY_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
ROW_NAMES = {op.name for op in TABLE}


def target_with(*rules: Rule) -> Target:
    spec = QuantizationSpec()
    return Target(
        name="mine", description="", activation=spec, weight=spec, bias=BiasHandling.FLOAT, rules=rules
    )


def rule_for(*ops: str) -> Rule:
    return Rule(ops=ops, placement=Placement.INTEGER, why="it has a kernel")


@EVERY_TARGET
def test_every_op_of_every_rule_is_a_row_of_the_table(target: Target) -> None:
    assert {name for rule in target.rules for name in rule.ops} <= ROW_NAMES


@EVERY_TARGET
def test_every_rule_says_why_in_one_line(target: Target) -> None:
    assert [rule.ops for rule in target.rules if not rule.why or "\n" in rule.why] == []


@EVERY_TARGET
def test_a_rule_is_found_by_each_of_its_ops(target: Target) -> None:
    assert all(target.rule(name) is rule for rule in target.rules for name in rule.ops)


@EVERY_TARGET
def test_a_target_is_found_by_its_name(target: Target) -> None:
    assert get_target(target.name) is target


@EVERY_TARGET
def test_the_passes_of_a_target_exist(target: Target) -> None:
    assert set(target.passes) <= {one_pass.name for one_pass in CATALOGUE}


@EVERY_TARGET
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda target: pickle.loads(pickle.dumps(target))])
def test_a_target_equals_its_copies(target: Target, duplicate: object) -> None:
    copied = duplicate(target)  # type: ignore[operator]
    assert copied == target
    assert copied.rule("conv2d") == target.rule("conv2d")


@EVERY_TARGET
def test_only_integer_ops_have_rules_about_their_output(target: Target) -> None:
    placements = {rule.placement for rule in target.rules if rule.output is not OutputRule.NEVER}
    assert placements <= {Placement.INTEGER}


@EVERY_TARGET
def test_weights_of_products_are_symmetric_around_zero(target: Target) -> None:
    products = [rule for rule in target.rules if any(op_named(op).macs for op in rule.ops)]
    specs = [target.weight, *(rule.weight for rule in products if rule.weight)]
    assert all(spec.symmetric and spec.qmin == -spec.qmax for spec in specs)


def test_an_op_without_a_rule_stays_float_and_says_why() -> None:
    rule = get_target("tensorrt").rule("gelu")
    assert (rule.placement, rule.ops) == (Placement.FLOAT, ("gelu",))
    assert rule.why == "tensorrt has no integer kernel for gelu"


def test_tensorrt_has_its_zero_point_at_zero() -> None:
    activation = get_target("tensorrt").activation
    assert (activation.symmetric, activation.qmin, activation.qmax) == (True, -128, 127)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_tensorrt_scales_a_transposed_convolution_per_tensor(rank: int) -> None:
    assert get_target("tensorrt").rule(f"conv_transpose{rank}d").weight.channel_axis is None
    assert op_named(f"conv_transpose{rank}d").weight.channel_axis == 1


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("TensorRT", "tensorrt"), ("tensor-rt", "tensorrt"), ("onnxrt", "onnxruntime"), ("ONNX", "onnxruntime")],
)
def test_an_unknown_target_suggests_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(OptionError, match=rf"There is no target '{given}'\. Did you mean '{nearest}'\?"):
        get_target(given)


def test_a_target_like_no_other_lists_all() -> None:
    with pytest.raises(OptionError, match=r"There is no target 'zzz'\. Known: generic, onnxruntime, "):
        get_target("zzz")


def test_a_target_that_is_not_a_name_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="There is no target 'None'"):
        get_target(None)  # type: ignore[arg-type]


def test_a_target_may_do_without_passes_of_its_own() -> None:
    assert "assign-specs" in str(prepare_pipeline(target_with(rule_for("add"))))


def test_two_rules_for_one_op_are_refused() -> None:
    with pytest.raises(OptionError, match="Target 'mine' has two rules for op 'add'"):
        target_with(rule_for("add"), rule_for("mul", "add"))


def test_a_rule_for_an_unknown_op_is_refused() -> None:
    with pytest.raises(OptionError, match=r"There is no op 'conv2'\. Did you mean 'conv2d'\?"):
        target_with(rule_for("conv2"))
