from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Example, Report, capture, graph_text
from fxquant.passes import RemoveNoop
from tests.zoo.torchvision_models import import_torchvision


class Between(nn.Module):
    """A layer between two others."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.layer, self.after = nn.Linear(4, 4), layer, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.layer(self.before(x)))


class FunctionalDropout(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5, training=self.training)


class AlwaysDropout(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5)  # training=True is the default


class DropoutOfEverything(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 1.0, training=self.training)  # 1.0 == True


class Contiguous(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous()


class OnlyIdentity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.identity(x)


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.identity(input=x)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.Dropout(0.5), id="dropout"),
        pytest.param(nn.Dropout1d(0.5), id="dropout1d"),
        pytest.param(nn.AlphaDropout(0.5), id="alpha_dropout"),
        pytest.param(nn.Identity(), id="identity"),
        pytest.param(FunctionalDropout(), id="functional_dropout"),
        pytest.param(DropoutOfEverything(), id="dropout_of_everything"),
        pytest.param(Contiguous(), id="contiguous"),
    ],
)
def test_op_that_does_nothing_in_evaluation_is_removed(
    layer: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(Between(layer)), RemoveNoop(), request.node.callspec.id)


def test_stochastic_depth_is_removed_by_its_qualified_name(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    layer = import_torchvision().ops.StochasticDepth(0.5, "row")
    check_rewrite(captured(Between(layer)), RemoveNoop(), "stochastic_depth")


def test_dropout_that_is_active_in_evaluation_is_declined(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    check_rewrite(captured(Between(AlwaysDropout())), RemoveNoop(), "always_dropout")


def test_graph_of_nothing_but_an_identity_returns_its_input(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    check_rewrite(captured(OnlyIdentity()), RemoveNoop(), "only_identity")


def test_output_stays_the_same() -> None:
    model, x = Between(nn.Sequential(nn.Dropout(0.5), FunctionalDropout())).eval(), torch.randn(3, 4)
    gm = capture(model)
    RemoveNoop()(gm, Report())
    assert torch.equal(gm(x), model(x))


def test_op_called_with_a_keyword_is_removed(captured: Callable[..., fx.GraphModule]) -> None:
    assert graph_text(captured(ByKeyword(), "canonicalize,remove-noop")) == "x = input\nreturn x\n"


class SlicesAndCasts(nn.Module):
    """Slices of everything and casts to the type that is there, among those that do something."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x[:, 0:].to(torch.float32)[...]
        return y[:, 1:].to(torch.float64) + y.float()[0]


def test_slices_of_everything_and_casts_to_the_same_type_are_removed(
    check_rewrite: Callable[..., Report],
) -> None:
    model, x = SlicesAndCasts(), torch.randn(3, 2)
    gm = capture(model, Example(args=(x,)))
    check_rewrite(gm, RemoveNoop(), "slices_and_casts")
    assert torch.equal(gm(x), model(x))
