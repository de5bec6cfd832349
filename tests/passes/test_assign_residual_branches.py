from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import AssignResidualBranches

BEFORE = "canonicalize,remove-noop,fold-batch-norm,assign-specs{target=tensorrt}"


class Convs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.short = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)


class Identity(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv2(F.relu(self.conv1(x))))
        return F.relu(y + x)


class IdentityOnTheLeft(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class ActivationBeforeTheAdd(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.conv1(x)) + x


class Downsample(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.short(x) + self.conv2(F.relu(self.conv1(x)))


class DownsampleAfterABackbone(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.conv2(F.relu(x)) + self.short(x)


class BranchesOfOneLength(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x) + self.conv2(x)


class NoConv(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv1(F.max_pool2d(x, 2) + y)


class ConvReadTwice(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.conv2(y + x) + torch.erf(y)


class ActivationReadTwice(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv1(x))
        return self.conv2(y + x) * y


class ChainOfBlocks(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv1(x) + x)
        return F.relu(self.conv2(x) + x)


class LinearBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + x


class ConvPlusConstant(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x) + 1.0


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Identity(), id="identity_shortcut"),
        pytest.param(IdentityOnTheLeft(), id="identity_on_the_left"),
        pytest.param(ActivationBeforeTheAdd(), id="activation_before_the_add"),
        pytest.param(ChainOfBlocks(), id="chain_of_blocks"),
    ],
)
def test_conv_branch_stays_float_and_the_identity_is_quantized(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignResidualBranches(), request.node.callspec.id)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Downsample(), id="downsample_shortcut"),
        pytest.param(DownsampleAfterABackbone(), id="downsample_after_a_backbone"),
        pytest.param(BranchesOfOneLength(), id="branches_of_one_length"),
    ],
)
def test_longer_of_two_conv_branches_stays_float(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignResidualBranches(), request.node.callspec.id)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(NoConv(), id="no_conv"),
        pytest.param(ConvReadTwice(), id="conv_read_twice"),
        pytest.param(ActivationReadTwice(), id="activation_read_twice"),
        pytest.param(LinearBranch(), id="linear_branch"),
        pytest.param(ConvPlusConstant(), id="conv_plus_constant"),
    ],
)
def test_add_without_a_branch_that_fuses_is_left_as_it_is(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignResidualBranches(), request.node.callspec.id)
