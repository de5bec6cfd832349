"""Passes: one rewrite per file. README.md beside this file is the generated catalogue."""

if __name__ != "fxquant.passes":
    raise ImportError(
        "The 'passes' link at the repository root is for browsing: import fxquant.passes instead."
    )

from fxquant.arithmetic import FLOAT, get_arithmetic
from fxquant.passes.assign_given_ranges import AssignGivenRanges
from fxquant.passes.assign_outputs import AssignOutputs
from fxquant.passes.assign_residual_branches import AssignResidualBranches
from fxquant.passes.assign_small_layers import AssignSmallLayers
from fxquant.passes.assign_specs import AssignSpecs
from fxquant.passes.base import Changes, Pass
from fxquant.passes.canonicalize import Canonicalize
from fxquant.passes.canonicalize_pools import CanonicalizePools
from fxquant.passes.canonicalize_writes import CanonicalizeWrites
from fxquant.passes.catalogue import catalogue_text
from fxquant.passes.decompose_activations import DecomposeActivations
from fxquant.passes.decompose_addmm import DecomposeAddmm
from fxquant.passes.decompose_attention import DecomposeAttention
from fxquant.passes.decompose_biases import DecomposeBiases
from fxquant.passes.decompose_einsum import DecomposeEinsum
from fxquant.passes.decompose_embedding import DecomposeEmbedding
from fxquant.passes.decompose_group_norm import DecomposeGroupNorm
from fxquant.passes.decompose_grouped_products import DecomposeGroupedProducts
from fxquant.passes.derive_bias import DeriveBias
from fxquant.passes.fold_batch_norm import FoldBatchNorm
from fxquant.passes.freeze_encodings import FreezeEncodings
from fxquant.passes.hoist_quantizers import HoistQuantizers
from fxquant.passes.insert_constants import InsertConstants
from fxquant.passes.insert_quantizers import InsertQuantizers
from fxquant.passes.legalize_inputs import LegalizeInputs
from fxquant.passes.legalize_outputs import LegalizeOutputs
from fxquant.passes.pipeline import Pipeline, parse_pipeline
from fxquant.passes.remove_given_quantizers import RemoveGivenQuantizers
from fxquant.passes.remove_half_casts import RemoveHalfCasts
from fxquant.passes.remove_noop import RemoveNoop
from fxquant.passes.share_encodings import ShareEncodings
from fxquant.passes.swap_arithmetic import SwapArithmetic
from fxquant.passes.swap_functions import SwapFunctions
from fxquant.passes.swap_layers import SwapLayers
from fxquant.passes.swap_modules import SwapModules
from fxquant.passes.widen_weights import WidenWeights
from fxquant.targets import BiasHandling, Target

CATALOGUE: tuple[type[Pass], ...] = (
    RemoveGivenQuantizers,
    CanonicalizeWrites,
    Canonicalize,
    RemoveNoop,
    RemoveHalfCasts,
    DecomposeEinsum,
    DecomposeGroupedProducts,
    DecomposeAddmm,
    SwapLayers,
    FoldBatchNorm,
    DecomposeBiases,
    DecomposeAttention,
    DecomposeActivations,
    DecomposeEmbedding,
    CanonicalizePools,
    DecomposeGroupNorm,
    InsertConstants,
    AssignSpecs,
    AssignSmallLayers,
    LegalizeInputs,
    AssignOutputs,
    AssignResidualBranches,
    LegalizeOutputs,
    ShareEncodings,
    InsertQuantizers,
    SwapFunctions,
    SwapModules,
    AssignGivenRanges,
    HoistQuantizers,
    WidenWeights,
    DeriveBias,
    FreezeEncodings,
    SwapArithmetic,
)
"""Every pass, in the order of the way of a model."""


def parse(text: str) -> Pipeline:
    """Return the pipeline that a text names; ``parse(str(pipeline)) == pipeline``.

    Raises:
        OptionError: If the text is malformed, or names a pass or option that does not exist.
    """
    return parse_pipeline(text, CATALOGUE)


def prepare_pipeline(target: Target) -> Pipeline:
    """Return the passes that prepare a captured graph for a target."""
    placing = ["assign-specs", *target.passes]
    common = ["share-encodings", "insert-quantizers", "swap-modules", "assign-given-ranges"]
    simplifying = ["remove-given-quantizers", "canonicalize-writes", "canonicalize", "remove-noop"]
    simplifying += ["remove-half-casts"]
    products = ["decompose-einsum", "decompose-grouped-products", "decompose-addmm"]
    decomposing = [*products, "decompose-attention"]
    folding = ["swap-layers", "fold-batch-norm"]
    rewriting = [*decomposing, *target.rewrites, *folding, *target.layer_rewrites]
    return parse(",".join([*simplifying, *rewriting, *placing, *common])).for_target(target.name)


def convert_pipeline(target: Target, arithmetic: str = FLOAT.name) -> Pipeline:
    """Return the passes that freeze a calibrated model, to be simulated in an arithmetic.

    Raises:
        OptionError: If there is no such arithmetic.
    """
    bias = ["derive-bias"] if target.bias is BiasHandling.INT32 else []
    has_rules = bool(get_arithmetic(arithmetic).rules)
    swapping = [f"swap-arithmetic{{arithmetic={arithmetic}}}"] if has_rules else []
    return parse(",".join(["widen-weights", *bias, "freeze-encodings", *swapping]))


__all__ = [
    "CATALOGUE",
    "AssignGivenRanges",
    "AssignOutputs",
    "AssignResidualBranches",
    "AssignSmallLayers",
    "AssignSpecs",
    "Canonicalize",
    "CanonicalizePools",
    "CanonicalizeWrites",
    "Changes",
    "DecomposeActivations",
    "DecomposeAddmm",
    "DecomposeAttention",
    "DecomposeBiases",
    "DecomposeEinsum",
    "DecomposeEmbedding",
    "DecomposeGroupNorm",
    "DecomposeGroupedProducts",
    "DeriveBias",
    "FoldBatchNorm",
    "FreezeEncodings",
    "HoistQuantizers",
    "InsertConstants",
    "InsertQuantizers",
    "LegalizeInputs",
    "LegalizeOutputs",
    "Pass",
    "Pipeline",
    "RemoveGivenQuantizers",
    "RemoveHalfCasts",
    "RemoveNoop",
    "ShareEncodings",
    "SwapArithmetic",
    "SwapFunctions",
    "SwapLayers",
    "SwapModules",
    "WidenWeights",
    "catalogue_text",
    "convert_pipeline",
    "parse",
    "prepare_pipeline",
]
