"""support_text: what each target does with each op, as Markdown, kept in docs/ops.md."""

from fxquant.ops import TABLE
from fxquant.targets.target import Target

_HEAD = """# Ops

Generated from the op table and the targets' tables; `make golden` writes it anew. *integer*: reads quantized
tensors. *copy*: moves integers unchanged. *epilogue*: fuses into the integer op before it. An op that is not
here runs in float, and `fxquant.report(model).floats` names it.

"""


_SCHEMES = """Other types that a target runs; write `target="qualcomm:w8a16"`. A weight that blocks do not
divide has one range per channel."""


def support_text(targets: tuple[Target, ...]) -> str:
    """Return one row per op: ONNX form, origin of its range, each target's placement, then the whys."""
    names = [target.name for target in targets]
    lines = [
        f"| op | ONNX | output range | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for op in TABLE:
        placements = [target.rule(op.name).placement.value for target in targets]
        lines.append(f"| {op.name} | {op.onnx} | {op.output.value} | {' | '.join(placements)} |")
    reasons = [
        f"- **{target.name}**, {', '.join(rule.ops)}: {rule.why}."
        for target in targets
        for rule in target.rules
    ]
    schemes = [
        f"- `{target.name}:{name}`: activations {scheme.activation or 'float'}, weights {scheme.weight}; "
        f"{scheme.why}."
        for target in targets
        for name, scheme in target.schemes.items()
    ]
    sections = ["", "## Why", "", *reasons, "", "## Schemes", "", _SCHEMES, "", *schemes]
    return _HEAD + "\n".join([*lines, *sections]) + "\n"
