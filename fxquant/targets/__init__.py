"""Targets: deployment backends as sparse tables over the op table."""

from fxquant.errors import unknown_option
from fxquant.targets.generic import GENERIC
from fxquant.targets.layer_sizes import LayerSizes, SizeLimit
from fxquant.targets.onnxruntime import ONNXRUNTIME
from fxquant.targets.openvino import OPENVINO
from fxquant.targets.qualcomm import QUALCOMM
from fxquant.targets.support import support_text
from fxquant.targets.target import BiasHandling, FileForm, OutputRule, Placement, Rule, Scheme, Target
from fxquant.targets.tensorrt import TENSORRT

TARGETS: dict[str, Target] = {
    target.name: target for target in (TENSORRT, QUALCOMM, ONNXRUNTIME, OPENVINO, GENERIC)
}
_ALIASES = {"qnn": QUALCOMM.name}


def get_target(name: str) -> Target:
    """Return the target with a name: "qualcomm", or with a scheme of its own "qualcomm:w8a16".

    Raises:
        OptionError: If there is none; the message suggests the nearest name.
    """
    plain, _, scheme = str(name).partition(":")
    plain = _ALIASES.get(plain, plain)
    if plain not in TARGETS:
        raise unknown_option("target", plain, TARGETS)
    return TARGETS[plain].with_scheme(scheme) if scheme else TARGETS[plain]


__all__ = [
    "TARGETS",
    "BiasHandling",
    "FileForm",
    "LayerSizes",
    "OutputRule",
    "Placement",
    "Rule",
    "Scheme",
    "SizeLimit",
    "Target",
    "get_target",
    "support_text",
]
