from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import AssignOutputs

BEFORE = "canonicalize,remove-noop,fold-batch-norm,assign-specs{target=onnxruntime}"


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.pool, self.fc1, self.fc2 = nn.MaxPool2d(2), nn.Linear(4, 4), nn.Linear(4, 2)


class ConvWithEpilogue(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(self.pool(F.relu(self.conv1(x))))


class TwoActivations(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu6(F.relu(self.conv1(x))))


class ConvReadBesideItsActivation(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.conv2(F.relu(y)) + y


class ConvAtTheEnd(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x)


class LinearAtTheEnd(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class LinearWithEpilogueAtTheEnd(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.fc1(x))


class Split(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.conv1(x).chunk(2, 1)
        return torch.cat([second, first], 1)


class CopyOfAnInput(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(self.pool(x))


class GateAndSoftmax(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return torch.softmax(y * torch.sigmoid(F.adaptive_avg_pool2d(y, 1)), 1)


class Scaled(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x) * 2.0)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(ConvWithEpilogue(), id="conv_with_epilogue"),
        pytest.param(TwoActivations(), id="two_activations"),
        pytest.param(ConvReadBesideItsActivation(), id="conv_read_beside_its_activation"),
        pytest.param(ConvAtTheEnd(), id="conv_at_the_end"),
        pytest.param(GateAndSoftmax(), id="gate_and_softmax"),
        pytest.param(Scaled(), id="scaled_by_a_number"),
    ],
)
def test_output_of_an_integer_kernel_is_quantized_behind_its_activation(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignOutputs(target="onnxruntime"), request.node.callspec.id)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(LinearAtTheEnd(), id="linear_at_the_end"),
        pytest.param(LinearWithEpilogueAtTheEnd(), id="linear_with_epilogue_at_the_end"),
    ],
)
def test_linear_that_gives_the_models_output_hands_out_float(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignOutputs(target="onnxruntime"), request.node.callspec.id)


@pytest.mark.parametrize(
    "model",
    [pytest.param(Split(), id="split"), pytest.param(CopyOfAnInput(), id="copy_of_an_input")],
)
def test_copies_follow_what_they_read(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), AssignOutputs(target="onnxruntime"), request.node.callspec.id)
