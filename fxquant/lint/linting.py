"""lint_model: every rule of a target on a model, and the exact fixes."""

from collections.abc import Iterable
from pathlib import Path

from fxquant.errors import unknown_option
from fxquant.lint.files import load_graph, save_graph
from fxquant.lint.graph import Graph
from fxquant.lint.qualcomm import QUALCOMM_RULES
from fxquant.lint.report import LintReport
from fxquant.lint.rule import Rule
from fxquant.lint.tensorrt import TENSORRT_RULES

RULES: dict[str, tuple[Rule, ...]] = {"tensorrt": TENSORRT_RULES, "qualcomm": QUALCOMM_RULES}
"""The rules of each target."""
_ROUNDS = 4  # a fix may make room for another


def lint_model(
    model: object, target: str = "tensorrt", *, ignore: Iterable[str] = (), fix: Path | None = None
) -> LintReport:
    """Check a quantized ONNX model against the rules of a target; repair what can be repaired exactly.

    Args:
        model: A path, an onnx.ModelProto or an onnx_ir.Model; it is not modified.
        target: "tensorrt" or "qualcomm".
        ignore: Ids of rules not to check.
        fix: Where to write the model after every exact fix; None to only look.

    Raises:
        OptionError: If the target or a rule to ignore does not exist.
        ModelTypeError: If it is no model.
        ModelFileError: If the file cannot be read as one.
        ExportError: If the repaired model cannot be written.
    """
    if target not in RULES:
        raise unknown_option("set of rules for target", target, RULES)
    skipped = set(ignore)
    unknown = sorted(skipped - {rule.id for rule in RULES[target]})
    if unknown:
        raise unknown_option(f"rule of {target}", unknown[0], [rule.id for rule in RULES[target]])
    rules = [rule for rule in RULES[target] if rule.id not in skipped]
    graph = load_graph(model)
    fixed: dict[str, int] = {}
    if fix is not None:
        fixed = _fix(graph, rules)
        save_graph(graph, fix)
        graph = load_graph(fix)
    findings = tuple(finding for rule in rules for finding in rule.findings(graph))
    return LintReport(target=target, findings=findings, fixed=fixed, fixed_file=fix)


def _fix(graph: Graph, rules: list[Rule]) -> dict[str, int]:
    fixed: dict[str, int] = {}
    for _ in range(_ROUNDS):
        before = sum(fixed.values())
        for rule in rules:
            count = rule.fix(graph) if rule.fix is not None else 0
            if count:
                fixed[rule.id] = fixed.get(rule.id, 0) + count
        if sum(fixed.values()) == before:
            break
    return fixed
