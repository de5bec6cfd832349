"""A case for the quantized class of each module of torch.nn."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from tests.nn.cases import IMAGE, LABELS, TOKENS, WEIGHTED, Case, case, normal, positive

LINE, VOLUME, MATRIX = (2, 4, 9), (2, 4, 5, 5, 5), (3, 5)

ACTIVATIONS = {
    module.__name__: case(module(), MATRIX)
    for module in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU),
        *(nn.LogSigmoid, nn.Mish, nn.PReLU, nn.RReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid),
        *(nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink),
    )
} | {
    "GLU": case(nn.GLU(), (3, 6)),
    "LogSoftmax": case(nn.LogSoftmax(1), MATRIX),
    "Softmax": case(nn.Softmax(1), MATRIX),
    "Softmax2d": case(nn.Softmax2d(), IMAGE),
    "Softmin": case(nn.Softmin(1), MATRIX),
    "Threshold": case(nn.Threshold(0.1, 0.5), MATRIX),
}
POOLS = {
    "AdaptiveAvgPool1d": case(nn.AdaptiveAvgPool1d(2), LINE),
    "AdaptiveAvgPool2d": case(nn.AdaptiveAvgPool2d((1, 3)), IMAGE),
    "AdaptiveAvgPool3d": case(nn.AdaptiveAvgPool3d(1), VOLUME),
    "AdaptiveMaxPool1d": case(nn.AdaptiveMaxPool1d(2), LINE),
    "AdaptiveMaxPool2d": case(nn.AdaptiveMaxPool2d(2), IMAGE),
    "AdaptiveMaxPool3d": case(nn.AdaptiveMaxPool3d(2), VOLUME),
    "AvgPool1d": case(nn.AvgPool1d(2), LINE),
    "AvgPool2d": case(nn.AvgPool2d(2), IMAGE),
    "AvgPool3d": case(nn.AvgPool3d(2), VOLUME),
    "FractionalMaxPool2d": case(nn.FractionalMaxPool2d(3, (4, 4)), IMAGE),
    "FractionalMaxPool3d": case(nn.FractionalMaxPool3d(2, (2, 2, 2)), VOLUME),
    "LPPool1d": case(nn.LPPool1d(2, 3), LINE),
    "LPPool2d": case(nn.LPPool2d(2, 3), IMAGE),
    "LPPool3d": case(nn.LPPool3d(2, 2), VOLUME),
    "MaxPool1d": case(nn.MaxPool1d(2), LINE),
    "MaxPool2d": case(nn.MaxPool2d(3, 2, 1), IMAGE),
    "MaxPool3d": case(nn.MaxPool3d(2), VOLUME),
    "MaxUnpool1d": case(nn.MaxUnpool1d(2), *nn.MaxPool1d(2, return_indices=True)(normal(*LINE))),
    "MaxUnpool2d": case(nn.MaxUnpool2d(2), *nn.MaxPool2d(2, return_indices=True)(normal(2, 4, 6, 6))),
    "MaxUnpool3d": case(nn.MaxUnpool3d(2), *nn.MaxPool3d(2, return_indices=True)(normal(2, 4, 4, 4, 4))),
}
PADS = {
    f"{kind}{rank}d": case(getattr(nn, f"{kind}{rank}d")(1, *value), (LINE, IMAGE, VOLUME)[rank - 1])
    for kind, value in (
        ("CircularPad", ()),
        ("ConstantPad", (3.5,)),
        ("ReflectionPad", ()),
        ("ReplicationPad", ()),
        ("ZeroPad", ()),
    )
    for rank in (1, 2, 3)
}
NORMS = {
    "BatchNorm1d": case(nn.BatchNorm1d(4), LINE),
    "BatchNorm2d": case(nn.BatchNorm2d(4), IMAGE),
    "BatchNorm3d": case(nn.BatchNorm3d(4), VOLUME),
    "GroupNorm": case(nn.GroupNorm(2, 4), IMAGE),
    "InstanceNorm1d": case(nn.InstanceNorm1d(4), LINE),
    "InstanceNorm2d": case(nn.InstanceNorm2d(4), IMAGE),
    "InstanceNorm3d": case(nn.InstanceNorm3d(4), VOLUME),
    "LayerNorm": case(nn.LayerNorm((9, 9)), IMAGE),
    "LocalResponseNorm": case(nn.LocalResponseNorm(2), IMAGE),
    "RMSNorm": case(nn.RMSNorm(9), IMAGE),
    "SyncBatchNorm": case(nn.SyncBatchNorm(4), IMAGE),
}
MOVES = {
    "ChannelShuffle": case(nn.ChannelShuffle(2), IMAGE),
    "Flatten": case(nn.Flatten(), IMAGE),
    "Fold": case(nn.Fold((4, 5), (2, 2)), (1, 12, 12)),
    "PixelShuffle": case(nn.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": case(nn.PixelUnshuffle(3), IMAGE),
    "Unflatten": case(nn.Unflatten(1, (2, 2)), IMAGE),
    "Unfold": case(nn.Unfold((2, 3)), IMAGE),
    "Upsample": case(nn.Upsample(scale_factor=2), IMAGE),
    "UpsamplingBilinear2d": case(nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "UpsamplingNearest2d": case(nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
}
DROPOUTS = {
    module.__name__: case(module(), LINE)
    for module in (nn.AlphaDropout, nn.Dropout, nn.Dropout1d, nn.FeatureAlphaDropout)
} | {"Dropout2d": case(nn.Dropout2d(), IMAGE), "Dropout3d": case(nn.Dropout3d(), VOLUME)}

_DISTANCE = partial(nn.TripletMarginWithDistanceLoss, distance_function=nn.PairwiseDistance())
_CLASSES = torch.tensor([1, 4, 0])
LOSSES = {
    "BCELoss": case(nn.BCELoss(), positive(3, 5), torch.ones(3, 5)),
    "BCEWithLogitsLoss": case(nn.BCEWithLogitsLoss(), MATRIX, torch.ones(3, 5)),
    "CTCLoss": case(
        nn.CTCLoss(),
        normal(10, 2, 5).log_softmax(2),
        torch.tensor([[1, 2, 3], [4, 1, 2]]),
        torch.tensor([10, 10]),
        torch.tensor([3, 2]),
    ),
    "CosineEmbeddingLoss": case(nn.CosineEmbeddingLoss(), MATRIX, positive(3, 5), LABELS),
    "CosineSimilarity": case(nn.CosineSimilarity(), MATRIX, positive(3, 5)),
    "CrossEntropyLoss": case(nn.CrossEntropyLoss(), MATRIX, _CLASSES),
    "GaussianNLLLoss": case(nn.GaussianNLLLoss(), MATRIX, positive(3, 5), torch.ones(3, 5)),
    "HingeEmbeddingLoss": case(nn.HingeEmbeddingLoss(), normal(3), LABELS),
    "HuberLoss": case(nn.HuberLoss(), MATRIX, positive(3, 5)),
    "KLDivLoss": case(nn.KLDivLoss(reduction="batchmean"), F.log_softmax(normal(3, 5), 1), positive(3, 5)),
    "L1Loss": case(nn.L1Loss(), MATRIX, positive(3, 5)),
    "MSELoss": case(nn.MSELoss(), MATRIX, positive(3, 5)),
    "MarginRankingLoss": case(nn.MarginRankingLoss(), normal(3), positive(3), LABELS),
    "MultiLabelMarginLoss": case(nn.MultiLabelMarginLoss(), MATRIX, torch.tensor([[1, -1, 0, 0, 0]] * 3)),
    "MultiLabelSoftMarginLoss": case(nn.MultiLabelSoftMarginLoss(), MATRIX, F.one_hot(_CLASSES, 5)),
    "MultiMarginLoss": case(nn.MultiMarginLoss(), MATRIX, _CLASSES),
    "NLLLoss": case(nn.NLLLoss(), MATRIX, _CLASSES),
    "PairwiseDistance": case(nn.PairwiseDistance(), MATRIX, positive(3, 5)),
    "PoissonNLLLoss": case(nn.PoissonNLLLoss(), MATRIX, positive(3, 5)),
    "SmoothL1Loss": case(nn.SmoothL1Loss(), MATRIX, positive(3, 5)),
    "SoftMarginLoss": case(nn.SoftMarginLoss(), normal(3), LABELS),
    "TripletMarginLoss": case(nn.TripletMarginLoss(), MATRIX, positive(3, 5), torch.ones(3, 5)),
    "TripletMarginWithDistanceLoss": case(_DISTANCE(), MATRIX, positive(3, 5), torch.ones(3, 5)),
}
RECURRENT = {
    "GRU": case(nn.GRU(4, 5), (3, 2, 4), (1, 2, 5)),
    "GRUCell": case(nn.GRUCell(4, 5), (2, 4), (2, 5)),
    "LSTM": case(nn.LSTM(4, 5), (3, 2, 4), (normal(1, 2, 5), positive(1, 2, 5))),
    "LSTMCell": case(nn.LSTMCell(4, 5), (2, 4), (normal(2, 5), positive(2, 5))),
    "RNN": case(nn.RNN(4, 5), (3, 2, 4), (1, 2, 5)),
    "RNNCell": case(nn.RNNCell(4, 5), (2, 4), (2, 5)),
    "EmbeddingBag": case(nn.EmbeddingBag(7, 4, mode="sum"), TOKENS, None, positive(2, 3)),
}
CLASSES: dict[str, Case] = (
    WEIGHTED
    | ACTIVATIONS
    | POOLS
    | PADS
    | NORMS
    | MOVES
    | DROPOUTS
    | LOSSES
    | RECURRENT
    | {
        "Bilinear": case(nn.Bilinear(3, 4, 5), (2, 3), positive(2, 4)),
        "MultiheadAttention": case(nn.MultiheadAttention(8, 2), *[normal(5, 3, 8)] * 3),
        "NonDynamicallyQuantizableLinear": case(NonDynamicallyQuantizableLinear(4, 6), (2, 4)),
    }
)
