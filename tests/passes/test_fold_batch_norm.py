import copy
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report, capture
from fxquant.passes import FoldBatchNorm


class Normed(nn.Module):
    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, settled(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


class Flat(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x.flatten(1)))


class SharedLayer(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x)) + self.layer(x + 1.0)


class SharedNorm(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.norm(self.layer(x)))


class TwoReaders(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return self.norm(y) + y


class ReluBetween(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(F.relu(self.layer(x)))


class NormFirst(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.norm(x))


class FunctionalConv(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(F.conv2d(x, self.layer.weight))


class WeightReadTwice(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.norm(self.layer(x.flatten(1))), self.layer.weight)


class NormByKeyword(Normed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(input=self.layer(x))


class TwoBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(4, 4, 1)
        self.first = Normed(conv, nn.BatchNorm2d(4))
        self.second = Normed(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(x)))


def settled(norm: nn.Module) -> nn.Module:
    """Give a batch norm the statistics and parameters of a trained one."""
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        bounds = (0.5, 2.0) if name in ("weight", "running_var") else (-1.0, 1.0)
        tensor.data = tensor if tensor.dim() == 0 else torch.empty_like(tensor).uniform_(*bounds)
    return norm


def rounding_bound(gm: fx.GraphModule, x: torch.Tensor, terms: int) -> torch.Tensor:
    """Return how far float32 may be from exact arithmetic, for each output of a folded layer.

    A sum of n rounded products of rounded factors is off by at most (n + 3) * eps / 2 times the sum of
    their magnitudes, which is what the layer gives for the magnitudes of its weight, bias and input.
    """
    magnitudes = copy.deepcopy(gm)
    for parameter in magnitudes.parameters():
        parameter.data = parameter.abs()
    return (terms + 3) * torch.finfo(torch.float32).eps / 2 * magnitudes(x.abs())


FOLDED = [
    pytest.param(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 9), id="conv1d"),
    pytest.param(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), (2, 4, 7, 7), id="conv2d"),
    pytest.param(nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), (2, 4, 5, 5, 5), id="conv3d"),
    pytest.param(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 7, 7), id="conv_without_bias"),
    pytest.param(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 7, 7), id="grouped_conv"),
    pytest.param(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), (2, 4, 7, 7), id="depthwise_conv"),
    pytest.param(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (2, 4, 7, 7), id="without_affine"),
    pytest.param(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=0.5), (2, 4, 7, 7), id="large_eps"),
    pytest.param(nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 2, 2), id="linear"),
    pytest.param(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), (5, 2, 2), id="linear_without_bias"),
    pytest.param(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (2, 4, 7), id="conv_transpose1d"),
    pytest.param(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), (2, 4, 5, 5), id="conv_transpose2d"),
    pytest.param(
        nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5), id="grouped_conv_transpose2d"
    ),
    pytest.param(
        nn.ConvTranspose3d(4, 6, 2, groups=2, bias=False),
        nn.BatchNorm3d(6),
        (2, 4, 3, 3, 3),
        id="grouped_conv_transpose3d_without_bias",
    ),
]


@pytest.mark.parametrize(("layer", "norm", "shape"), FOLDED)
def test_folded_layer_computes_what_layer_and_norm_computed(
    layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    model = (Flat if isinstance(layer, nn.Linear) else Normed)(layer, norm).eval()
    gm, x, report = capture(model), torch.randn(shape), Report()
    FoldBatchNorm()(gm, report)
    assert [site.applied for site in report.sites] == [True]
    exact = copy.deepcopy(model).double()(x.double())
    bound = rounding_bound(gm, x, terms=layer.weight.numel() // norm.num_features)
    assert ((gm(x).double() - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Normed(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), id="conv"),
        pytest.param(Flat(nn.Linear(4, 6), nn.BatchNorm1d(6)), id="linear"),
        pytest.param(
            nn.Sequential(nn.Flatten(), nn.ReLU(), Normed(nn.Linear(4, 6), nn.BatchNorm1d(6))),
            id="linear_behind_a_flatten_module",
        ),
        pytest.param(Normed(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6)), id="conv_transpose"),
        pytest.param(TwoBlocks(), id="two_blocks"),
    ],
)
def test_batch_norm_behind_a_weighted_layer_is_folded(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model), FoldBatchNorm(), request.node.callspec.id)


class Embedded(nn.Module):
    """A linear layer on sequences: the embedding behind the flatten adds a dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.norm = nn.Embedding(9, 4), nn.Linear(4, 6), nn.BatchNorm1d(6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(self.embed(ids.flatten(1))))


class Stacked(nn.Module):
    """A linear layer on sequences: one matrix stacked along a new dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(torch.stack([x.flatten(1)] * 6, 1)))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Embedded(), id="linear_behind_an_embedding"),
        pytest.param(Stacked(), id="linear_behind_a_stack"),
        pytest.param(SharedLayer(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="shared_conv"),
        pytest.param(SharedNorm(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="shared_norm"),
        pytest.param(TwoReaders(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="conv_with_two_readers"),
        pytest.param(ReluBetween(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="relu_between"),
        pytest.param(NormFirst(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="norm_first"),
        pytest.param(FunctionalConv(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), id="functional_conv"),
        pytest.param(Normed(nn.Embedding(4, 4), nn.BatchNorm1d(4)), id="embedding"),
        pytest.param(Normed(nn.Linear(4, 4), nn.BatchNorm1d(4)), id="linear_on_an_input"),
        pytest.param(
            nn.Sequential(nn.Flatten(2), Normed(nn.Linear(4, 4), nn.BatchNorm1d(4))),
            id="linear_behind_a_flatten_of_later_axes",
        ),
        pytest.param(Normed(nn.Linear(4, 4), nn.BatchNorm2d(4)), id="linear_before_batch_norm_2d"),
        pytest.param(
            Normed(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            id="without_running_statistics",
        ),
    ],
)
def test_batch_norm_that_cannot_be_folded_is_declined(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model), FoldBatchNorm(), request.node.callspec.id)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_folded_weights_keep_their_type_and_whether_they_are_trained(dtype: torch.dtype) -> None:
    model = Normed(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)).to(dtype)
    model.layer.weight.requires_grad_(False)
    gm = capture(model)
    FoldBatchNorm()(gm, Report())
    assert (gm.layer.weight.dtype, gm.layer.bias.dtype) == (dtype, dtype)
    assert not gm.layer.weight.requires_grad


def test_model_given_is_not_folded() -> None:
    model = Normed(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    before = model.layer.weight.clone()
    FoldBatchNorm()(capture(model), Report())
    assert torch.equal(model.layer.weight, before)


@pytest.mark.parametrize("sequence", [5, 6], ids=["other size", "same size"])
def test_linear_on_sequences_before_a_batch_norm_keeps_its_output(sequence: int) -> None:
    model, x = Normed(nn.Linear(4, 6), nn.BatchNorm1d(sequence)).eval(), torch.randn(2, sequence, 4)
    gm = capture(model)
    FoldBatchNorm()(gm, Report())
    torch.testing.assert_close(gm(x), model(x))


def test_layer_whose_weight_is_read_elsewhere_keeps_its_output() -> None:
    model, x = WeightReadTwice(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval(), torch.randn(5, 4)
    gm = capture(model)
    FoldBatchNorm()(gm, Report())
    torch.testing.assert_close(gm(x), model(x))


def test_batch_norm_called_with_a_keyword_is_folded_or_declined() -> None:
    report = Report()
    FoldBatchNorm()(capture(NormByKeyword(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))), report)
    assert [site.rewrite for site in report.sites] == ["fold-batch-norm"]


def test_parametrized_layer_is_folded() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    model, x = Normed(layer, nn.BatchNorm2d(4)).eval(), torch.randn(2, 4, 3, 3)
    gm, report = capture(model), Report()
    FoldBatchNorm()(gm, report)
    assert [site.applied for site in report.sites] == [True]
    torch.testing.assert_close(gm(x), model(x))
