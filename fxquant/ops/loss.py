"""Rows of losses and distances."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, Operand, Role, operands

_TWO = operands("input", "target")
_LABELLED = (Operand(name="input", index=0), Operand(name="target", index=1, role=Role.INDEX))
_RANKED = (*operands("input1", "input2"), Operand(name="target", index=2, role=Role.INDEX))
_TRIPLET = operands("anchor", "positive", "negative")

_LOSSES: tuple[tuple[str, type[nn.Module], Callable[..., Any], tuple[Operand, ...]], ...] = (
    ("binary_cross_entropy", nn.BCELoss, F.binary_cross_entropy, _TWO),
    ("binary_cross_entropy_with_logits", nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, _TWO),
    ("cross_entropy", nn.CrossEntropyLoss, F.cross_entropy, _TWO),
    ("ctc_loss", nn.CTCLoss, F.ctc_loss, (Operand(name="log_probs", index=0),)),
    ("gaussian_nll_loss", nn.GaussianNLLLoss, F.gaussian_nll_loss, operands("input", "target", "var")),
    ("poisson_nll_loss", nn.PoissonNLLLoss, F.poisson_nll_loss, _TWO),
    ("hinge_embedding_loss", nn.HingeEmbeddingLoss, F.hinge_embedding_loss, _LABELLED),
    ("huber_loss", nn.HuberLoss, F.huber_loss, _TWO),
    ("kl_div", nn.KLDivLoss, F.kl_div, _TWO),
    ("l1_loss", nn.L1Loss, F.l1_loss, _TWO),
    ("mse_loss", nn.MSELoss, F.mse_loss, _TWO),
    ("smooth_l1_loss", nn.SmoothL1Loss, F.smooth_l1_loss, _TWO),
    ("cosine_embedding_loss", nn.CosineEmbeddingLoss, F.cosine_embedding_loss, _RANKED),
    ("margin_ranking_loss", nn.MarginRankingLoss, F.margin_ranking_loss, _RANKED),
    ("multilabel_margin_loss", nn.MultiLabelMarginLoss, F.multilabel_margin_loss, _LABELLED),
    (
        "multilabel_soft_margin_loss",
        nn.MultiLabelSoftMarginLoss,
        F.multilabel_soft_margin_loss,
        _LABELLED,
    ),
    ("multi_margin_loss", nn.MultiMarginLoss, F.multi_margin_loss, _LABELLED),
    ("soft_margin_loss", nn.SoftMarginLoss, F.soft_margin_loss, _LABELLED),
    ("triplet_margin_loss", nn.TripletMarginLoss, F.triplet_margin_loss, _TRIPLET),
    (
        "triplet_margin_with_distance_loss",
        nn.TripletMarginWithDistanceLoss,
        F.triplet_margin_with_distance_loss,
        _TRIPLET,
    ),
    ("cosine_similarity", nn.CosineSimilarity, F.cosine_similarity, operands("x1", "x2")),
    ("pairwise_distance", nn.PairwiseDistance, F.pairwise_distance, operands("x1", "x2")),
)

LOSS = (
    *(
        Op(name=name, modules=(module,), functions=(function,), operands=taken)
        for name, module, function, taken in _LOSSES
    ),
    Op(name="nll_loss", modules=(nn.NLLLoss,), functions=(F.nll_loss,), operands=_LABELLED),
)
