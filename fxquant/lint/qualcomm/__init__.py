"""Rules of Qualcomm's HTP: what compiles and answers wrongly, runs in fp16, or is refused."""

from fxquant.lint.qualcomm.activations import ACTIVATION_RULES
from fxquant.lint.qualcomm.blocks import BLOCK_RULES
from fxquant.lint.qualcomm.boundaries import BOUNDARY_RULES
from fxquant.lint.qualcomm.encodings import ENCODING_RULES
from fxquant.lint.qualcomm.parameters import PARAMETER_RULES
from fxquant.lint.qualcomm.shapes import QUALCOMM_ADVICE, SHAPE_RULES
from fxquant.lint.qualcomm.weights import WEIGHT_RULES
from fxquant.lint.rule import Rule

_FAMILIES = (
    BOUNDARY_RULES,
    ACTIVATION_RULES,
    ENCODING_RULES,
    WEIGHT_RULES,
    BLOCK_RULES,
    PARAMETER_RULES,
    SHAPE_RULES,
    QUALCOMM_ADVICE,
)
QUALCOMM_RULES: tuple[Rule, ...] = tuple(
    sorted((rule for family in _FAMILIES for rule in family), key=lambda rule: int(rule.id.partition("-")[2]))
)

__all__ = ["QUALCOMM_RULES"]
