"""fxquant.prepare on models that hold pytorch-quantization's layers and quantizers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import fxquant
from fxquant.compat.pytorch_quantization import calib
from fxquant.compat.pytorch_quantization import nn as quant_nn
from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.nn.modules import _utils
from fxquant.compat.pytorch_quantization.tensor_quant import QUANT_DESC_8BIT_PER_TENSOR, QuantDescriptor
from fxquant.passes import Pipeline, prepare_pipeline
from fxquant.targets import get_target

TARGETS = ["onnxruntime", "qualcomm", "tensorrt"]


class UsersLinear(nn.Linear, _utils.QuantMixin):
    """A layer as the custom-module guide writes it."""

    def __init__(self, in_features: int, out_features: int, **kwargs: Any) -> None:
        super().__init__(in_features, out_features)
        self.init_quantizer(*_utils.pop_quant_desc_in_kwargs(self.__class__, **kwargs))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(self._input_quantizer(input), self._weight_quantizer(self.weight), self.bias)


class Block(nn.Module):
    """Convolutions with a shortcut that has a quantizer of its own, a pool, a user's own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = quant_nn.QuantConv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2 = quant_nn.QuantConv2d(16, 16, 3, padding=1)
        self.residual_quantizer = TensorQuantizer(QUANT_DESC_8BIT_PER_TENSOR)
        self.pool = quant_nn.QuantAdaptiveAvgPool2d(1)
        self.fc = UsersLinear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.conv2(y) + self.residual_quantizer(y))
        return self.fc(self.pool(y).flatten(1))


def calibrated(model: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """Calibrate all quantizers as the user guide does."""
    model.eval()
    quantizers = [module for module in model.modules() if isinstance(module, TensorQuantizer)]
    for quantizer in quantizers:
        quantizer.enable_calib()
        quantizer.disable_quant()
    with torch.no_grad():
        model(*inputs)
    for quantizer in quantizers:
        quantizer.load_calib_amax()
        quantizer.disable_calib()
        quantizer.enable_quant()
    return model


def prepared(model: nn.Module, target: str, *inputs: torch.Tensor) -> fx.GraphModule:
    """Prepare a model for a target, small layers too."""
    steps = prepare_pipeline(get_target(target)).passes
    config = Pipeline(tuple(step for step in steps if step.name != "assign-small-layers"))
    return fxquant.prepare(model, inputs, target=target, config=config)


@pytest.fixture
def block() -> nn.Module:
    torch.manual_seed(0)
    return calibrated(Block(), torch.randn(8, 3, 8, 8))


@pytest.mark.parametrize("target", TARGETS)
def test_calibrated_ranges_are_kept(block: Any, target: str) -> None:
    gm = prepared(block, target, torch.randn(2, 3, 8, 8))
    amax = block.conv1.input_quantizer.amax
    assert gm.quantizers.x.get_scale().item() == (amax / 127).item()
    assert gm.quantizers.relu.get_scale().item() == (block.conv2.input_quantizer.amax / 127).item()
    weight = gm.conv2.param_quantizers["weight"]
    if weight.shape:
        expected = block.conv2.weight_quantizer.amax / 127
        torch.testing.assert_close(weight.get_scale(), expected, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_model_did_not_quantize_is_left_to_calibrate(block: Any, target: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    gm = prepared(block, target, x)
    before = gm.quantizers.x.get_scale().item()
    fxquant.calibrate(gm, [x * 50], progress=False)
    assert gm.quantizers.x.get_scale().item() == before
    assert torch.isfinite(fxquant.convert(gm)(x)).all()


def test_quantized_model_gives_what_the_users_model_gives(block: Any) -> None:
    """Where the target quantizes no more than the user did, but for the kernels' own rounding of codes."""
    x = torch.randn(16, 3, 8, 8)
    gm = prepared(block, "tensorrt", x)
    fxquant.calibrate(gm, [x], progress=False)
    with torch.no_grad():
        ours, theirs = fxquant.convert(gm)(x), block(x)
        noise = (theirs - _in_float(block)(x)).square().mean()
    assert (ours - theirs).square().mean() < noise


def _in_float(model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    def call(x: torch.Tensor) -> torch.Tensor:
        quantizers = [module for module in model.modules() if isinstance(module, TensorQuantizer)]
        for quantizer in quantizers:
            quantizer.disable()
        output: torch.Tensor = model(x)
        for quantizer in quantizers:
            quantizer.enable()
        return output

    return call


def test_no_part_of_the_compat_package_is_left_in_the_prepared_model(block: Any) -> None:
    gm = prepared(block, "tensorrt", torch.randn(2, 3, 8, 8))
    assert [type(module) for module in gm.modules() if "compat" in type(module).__module__] == []
    assert not any("_amax" in key for key in gm.state_dict())


@pytest.mark.parametrize("example", [True, False], ids=["recorded", "traced"])
def test_every_layer_of_the_package_becomes_its_float_layer(example: bool) -> None:
    layers: list[tuple[nn.Module, tuple[int, ...]]] = [
        (quant_nn.QuantConv1d(4, 8, 3), (2, 4, 9)),
        (quant_nn.QuantConv3d(2, 4, 2), (2, 2, 4, 4, 4)),
        (quant_nn.QuantConvTranspose2d(4, 8, 3, stride=2), (2, 4, 5, 5)),
        (quant_nn.QuantLinear(6, 5), (3, 6)),
        (quant_nn.QuantMaxPool2d(2), (2, 4, 6, 6)),
        (quant_nn.QuantAvgPool2d(2), (2, 4, 6, 6)),
        (quant_nn.QuantInstanceNorm2d(4), (2, 4, 6, 6)),
    ]
    for layer, shape in layers:
        x = torch.randn(shape)
        model = calibrated(nn.Sequential(layer), x)
        gm = fxquant.prepare(model, x if example else None, target="tensorrt")
        assert type(gm.get_submodule("0")).__mro__[0].__module__.startswith(("torch.nn", "fxquant.nn"))
        report = fxquant.report(gm)
        assert report.declined("remove-given-quantizers") == []
        assert len(report.applied("remove-given-quantizers")) == 1


def test_lstm_becomes_torchs_and_the_report_says_what_became_of_its_ranges() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = quant_nn.QuantLSTM(4, 6, batch_first=True), quant_nn.QuantLinear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.lstm(x)[0])

    torch.manual_seed(0)
    x = torch.randn(2, 5, 4)
    model = calibrated(Recurrent(), x)
    gm = fxquant.prepare(model, x, target="tensorrt")
    assert isinstance(gm.lstm, nn.LSTM)
    reasons = [site.reason for site in fxquant.report(gm).declined("remove-given-quantizers")]
    assert reasons == [
        "one range of its input and hidden state, 0 says nothing of each",
        "one range of its input and hidden weights, 0 says nothing of each",
    ]


def test_users_subclass_of_a_layer_is_followed_into_its_forward() -> None:
    class Scaled(quant_nn.QuantLinear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 3.0

    x = torch.randn(4, 6)
    model = calibrated(nn.Sequential(Scaled(6, 5)), x)
    gm = prepared(model, "onnxruntime", x)
    fxquant.calibrate(gm, [x], progress=False)
    torch.testing.assert_close(fxquant.convert(gm)(x), model(x), atol=0.1, rtol=0.0)
    assert len(fxquant.report(gm).applied("remove-given-quantizers")) == 2


def test_code_that_calls_a_layers_quantizer_still_can() -> None:
    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = quant_nn.QuantLinear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) + self.fc.input_quantizer(x)

    x = torch.randn(4, 6)
    model = calibrated(Shares(), x)
    gm = fxquant.prepare(model, x, target="tensorrt")
    assert not any("_amax" in key for key in gm.state_dict())


def test_disabled_layer_stays_float(block: Any) -> None:
    block.conv2.input_quantizer.disable()
    gm = prepared(block, "tensorrt", torch.randn(2, 3, 8, 8))
    assert fxquant.report(gm).floats["conv2"].reason == "the model's own quantizer of its input is disabled"


def test_pre_quant_scale_goes_on_scaling(block: Any) -> None:
    block.conv2.input_quantizer.pre_quant_scale = 0.5
    x = torch.randn(2, 3, 8, 8)
    gm = prepared(block, "tensorrt", x)
    fxquant.calibrate(gm, [x], progress=False)
    with torch.no_grad():
        difference = (fxquant.convert(gm)(x) - block(x)).abs().max()
        wrong = (_without_scale(block)(x) - block(x)).abs().max()
    assert difference < wrong / 4


def _without_scale(block: Any) -> Any:
    other = Block()
    other.load_state_dict({k: v for k, v in block.state_dict().items() if "_pre_quant_scale" not in k})
    return other.eval()


@pytest.mark.parametrize(
    ("descriptor", "reason"),
    [
        pytest.param(QuantDescriptor(fake_quant=False), "it returns codes (fake_quant=False)", id="codes"),
    ],
)
def test_quantizer_that_is_not_replaced_stays_and_says_why(descriptor: QuantDescriptor, reason: str) -> None:
    x = torch.randn(4, 6)
    model = nn.Sequential(TensorQuantizer(descriptor), nn.Linear(6, 5)).eval()
    gm = fxquant.prepare(model, x, target="tensorrt")
    assert [site.reason for site in fxquant.report(gm).declined("remove-given-quantizers")] == [reason]


def test_learned_and_scaled_ranges_are_taken_as_they_act() -> None:
    x = torch.rand(4, 6)
    learned = TensorQuantizer(QuantDescriptor(amax=2.0, learn_amax=True))
    scaled = TensorQuantizer(QuantDescriptor(amax=4.0, scale_amax=0.25))
    for quantizer, amax in ((learned, 2.0), (scaled, 1.0)):
        model = nn.Sequential(quantizer, nn.Linear(6, 5)).eval()
        gm = prepared(model, "onnxruntime", x)
        (scale,) = [q.get_scale().item() for q in gm.quantizers.children() if q.has_range()]
        assert scale == torch.tensor(amax).div(127).item()


def test_weights_calibrated_by_the_package_keep_their_codes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(quant_nn.QuantConv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    calib.calibrate_weights(model, method="mse", perchannel=True)
    x = torch.randn(2, 3, 8, 8)
    gm = prepared(model, "onnxruntime", x)
    norm: Any = model[1]
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().reshape(-1, 1, 1, 1)
    expected = model[0].weight_quantizer.amax * factor.abs() / 127
    torch.testing.assert_close(gm.get_submodule("0").param_quantizers["weight"].get_scale(), expected)
