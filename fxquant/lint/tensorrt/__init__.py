"""TensorRT's rules: acceptance (A) by its parser and builder, placement (P) of quantizers for its fusions."""

from fxquant.lint.rule import Rule
from fxquant.lint.tensorrt.acceptance_layers import LAYER_RULES
from fxquant.lint.tensorrt.acceptance_scales import SCALE_RULES
from fxquant.lint.tensorrt.acceptance_types import TYPE_RULES
from fxquant.lint.tensorrt.advice import ADVICE
from fxquant.lint.tensorrt.placement_attention import ATTENTION_RULES
from fxquant.lint.tensorrt.placement_copies import COPY_RULES
from fxquant.lint.tensorrt.placement_joins import JOIN_RULES
from fxquant.lint.tensorrt.placement_sizes import SIZE_RULES
from fxquant.lint.tensorrt.placement_weighted import WEIGHTED_RULES

_FAMILIES = (
    TYPE_RULES,
    SCALE_RULES,
    LAYER_RULES,
    WEIGHTED_RULES,
    SIZE_RULES,
    JOIN_RULES,
    COPY_RULES,
    ATTENTION_RULES,
    ADVICE,
)
TENSORRT_RULES: tuple[Rule, ...] = tuple(
    sorted((rule for family in _FAMILIES for rule in family), key=lambda rule: rule.id)
)

__all__ = ["TENSORRT_RULES"]
