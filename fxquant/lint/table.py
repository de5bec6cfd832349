"""rules_text: the rules of every target as Markdown, kept in docs/lint.md."""

from collections.abc import Mapping

from fxquant.lint.rule import Rule

_HEAD = """# What `fxquant lint` checks

Generated from the rules; `make golden` writes it anew. E: the target refuses the file or computes other
numbers. W: slower, or in float. I: advice. A finding can be milder than its rule. *exact*: `--fix out.onnx`
repairs it, and the file computes the same; *not checked*: a file does not tell.

```sh
fxquant lint model.onnx --target tensorrt
fxquant lint model.onnx --target qualcomm --ignore QNN-10 --json
fxquant lint model.onnx --target tensorrt --fix fixed.onnx
```

A rule that needs a shape which the file does not tell is silent there. The rules of `tensorrt` were read from
NVIDIA's documentation, parser and tools, not measured; those of `qualcomm` were measured on the HTP simulator
of onnxruntime-qnn 2.7.0 (SM8650, V75).
"""


def rules_text(rules: Mapping[str, tuple[Rule, ...]]) -> str:
    """Return one table per target: id, severity, what is wanted, why, and what the fix is."""
    parts = [_HEAD]
    for target, rows in rules.items():
        lines = [f"\n## {target}\n", "| rule | | what it wants | else | fix |", "|---|---|---|---|---|"]
        lines += [
            f"| {rule.id} | {rule.severity.value} | {rule.statement} | {rule.why} | {_fix(rule)} |"
            for rule in rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _fix(rule: Rule) -> str:
    if rule.check is None:
        return "not checked"
    if rule.fix is None:
        return f"none: {rule.no_fix}" if rule.no_fix else ""
    return f"exact; {rule.no_fix}" if rule.no_fix else "exact"
