from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import LegalizeInputs

BEFORE = "canonicalize,remove-noop,fold-batch-norm,assign-specs{target=tensorrt}"


class Convs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)


class BehindAConvolution(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(F.relu(self.norm(self.conv1(x))), scale_factor=2.0)
        return self.conv2(y)


class OfAnInput(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(F.interpolate(x, scale_factor=2.0))


class BehindAFloatOp(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.interpolate(torch.erf(self.conv1(x)), scale_factor=2.0))


class ConvolutionReadTwice(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.conv2(F.interpolate(y, scale_factor=1.0) + torch.erf(y))


class AtTheEnd(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.conv1(x), scale_factor=2.0)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(BehindAConvolution(), id="behind_a_convolution"),
        pytest.param(OfAnInput(), id="of_an_input"),
        pytest.param(BehindAFloatOp(), id="behind_a_float_op"),
        pytest.param(ConvolutionReadTwice(), id="convolution_read_twice"),
        pytest.param(AtTheEnd(), id="at_the_end"),
    ],
)
def test_resize_reads_int8_only_behind_a_convolution_and_inside_the_model(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), LegalizeInputs(), request.node.callspec.id)
