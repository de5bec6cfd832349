from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.graph import Example, Report, capture
from fxquant.passes import SwapLayers, parse


class NormAct(nn.BatchNorm2d):
    """A batch norm with a forward of its own, as timm has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return F.relu(x)


class OfTheBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, None, None, training=True)


class Functional(nn.Module):
    """Layers as functions, with options by position, by keyword and left out."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.shift = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))
        self.wide = nn.Parameter(torch.randn(4, 3, 2, 2))
        self.register_buffer("matrix", torch.randn(5, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.kernel, self.shift, 2, padding=(1, 1))
        x = F.conv_transpose2d(x, self.wide, stride=2, groups=2)
        return F.linear(x, self.matrix)


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(self.encoder(x).relu(), self.encoder.weight.t().mT)


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight - self.weight.mean())


IMAGE = torch.randn(2, 3, 6, 6)


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4)).eval()
    nn.init.normal_(model[1].running_mean)
    nn.init.uniform_(model[1].running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize(
    ("name", "model", "x"),
    [
        ("norm_act", network(), IMAGE),
        ("functional", Functional(), IMAGE),
        ("tied", Tied(), torch.randn(3, 6)),
    ],
    ids=["norm", "functional", "tied"],
)
def test_a_layer_called_as_a_function_becomes_a_layer(
    check_rewrite: Any, name: str, model: nn.Module, x: torch.Tensor
) -> None:
    gm = capture(model, Example(args=(x,)))
    check_rewrite(gm, SwapLayers(), name)
    torch.testing.assert_close(gm(x), model(x))


def test_a_product_with_a_transposed_matrix_is_a_linear_layer_that_holds_it() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix.T

    model = Decoder()
    gm = capture(model)
    SwapLayers()(gm, Report())
    (call,) = gm.graph.find_nodes(op="call_module")
    layer = gm.get_submodule(call.target)
    assert isinstance(layer, nn.Linear)
    assert torch.equal(layer.weight, model.matrix)


class SharesTensors(nn.Module):
    """One kernel for a convolution and a transposed one; one pair of statistics for norms of two ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv_transpose2d(F.conv2d(x, self.kernel, padding=1), self.kernel, padding=1)
        x = F.batch_norm(x, self.mean, self.variance)
        return F.batch_norm(x.flatten(2), self.mean, self.variance)


def test_layers_of_different_classes_may_share_tensors() -> None:
    x, model = torch.randn(2, 4, 6, 6), SharesTensors()
    gm = capture(model, Example(args=(x,)))
    SwapLayers()(gm, Report())
    kinds = [type(gm.get_submodule(node.target)) for node in gm.graph.find_nodes(op="call_module")]
    assert kinds == [nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.BatchNorm1d]
    torch.testing.assert_close(gm(x), model(x))


class TriplesItsOutput(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 1e9:
            return x
        return F.linear(x, self.weight) * 3


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = TriplesItsOutput(6, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(x) if x.sum() < 1e9 else x


class ReadsAWeightOfAWholeLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Branches()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + F.linear(x, self.block.lin.weight)


def test_a_module_that_a_whole_layer_calls_keeps_its_place() -> None:
    x, model = torch.randn(2, 6), ReadsAWeightOfAWholeLayer()
    gm = capture(model, Example(args=(x,)))
    SwapLayers()(gm, Report())
    torch.testing.assert_close(gm(x), model(x))


@pytest.mark.parametrize("bias", [torch.randn(1), torch.randn(())], ids=["one", "none"])
def test_a_bias_that_is_broadcast_is_no_layers(bias: torch.Tensor) -> None:
    class Broadcasts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(5, 6)), nn.Parameter(bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.weight, self.bias) + torch.addmm(self.bias, x, self.weight.t())

    x, model = torch.randn(3, 6), Broadcasts()
    quantized = fxquant.quantize(model, [x], target="onnxruntime").model
    assert (quantized(x) - model(x)).norm() <= 0.05 * model(x).norm()


def test_a_norm_is_folded_then() -> None:
    model = network()
    gm = capture(model, Example(args=(IMAGE,)))
    parse("canonicalize,swap-layers,fold-batch-norm").run(gm, Report())
    assert [node.target for node in gm.graph.find_nodes(op="call_module")] == ["0"]
    torch.testing.assert_close(gm(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-5)


def test_biases_of_functions_are_stored_as_integers_then() -> None:
    model = fxquant.quantize(Functional(), [IMAGE], target="onnxruntime").model
    conv = next(module for name, module in model.named_modules() if name.endswith("conv2d"))
    assert conv.bias.dtype == torch.int32


@pytest.mark.parametrize(
    ("gm", "reason"),
    [
        (capture(OfTheBatch(), Example(args=(IMAGE,))), "given no parameters"),
        (capture(nn.Sequential(network())), "needs example_inputs"),
        (capture(Computed()), "not all constants"),
    ],
    ids=["batch statistics", "unknown rank", "computed weight"],
)
def test_another_stays_a_function(gm: Any, reason: str) -> None:
    report = Report()
    SwapLayers()(gm, report)
    (site,) = report.declined("swap-layers")
    assert reason in site.reason
