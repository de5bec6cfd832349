"""Targets: deployment backends as sparse tables over the op table."""

from fxquant.errors import unknown_option
from fxquant.targets.generic import GENERIC
from fxquant.targets.onnxruntime import ONNXRUNTIME
from fxquant.targets.support import support_text
from fxquant.targets.target import BiasHandling, OutputRule, Placement, Rule, Target
from fxquant.targets.tensorrt import TENSORRT

TARGETS: dict[str, Target] = {target.name: target for target in (TENSORRT, ONNXRUNTIME, GENERIC)}


def get_target(name: str) -> Target:
    """Return the target with a name.

    Raises:
        OptionError: If there is none; the message suggests the nearest name.
    """
    if name not in TARGETS:
        raise unknown_option("target", name, TARGETS)
    return TARGETS[name]


__all__ = [
    "TARGETS",
    "BiasHandling",
    "OutputRule",
    "Placement",
    "Rule",
    "Target",
    "get_target",
    "support_text",
]
