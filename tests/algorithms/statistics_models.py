"""Models with batch norms whose statistics are those of their data, and what quantization does to them."""

from collections.abc import Sequence

import torch
from torch import fx, nn

import fxquant
from fxquant.nn import QuantizationMixin
from fxquant.quantization import QuantizationSpec
from fxquant.quantization.of_spec import quantizer_of


def images(count: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8)  # not centred: a rounded weight moves means


def settled(model: nn.Module) -> nn.Module:
    """Let the norms of a model see data, and give evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        model.train()(images())
    return model.eval()


def normed() -> nn.Module:
    return settled(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 8, 1),
        )
    )


def prepared(
    model: nn.Module, data: Sequence[torch.Tensor], bits: int = 8, per_channel: bool = True
) -> fx.GraphModule:
    """Prepare a model with weights of some bits, and calibrate it."""
    gm = fxquant.prepare(model, data[0], target="generic")
    for module in gm.modules():
        if isinstance(module, QuantizationMixin) and "weight" in module.param_quantizers:
            axis = 0 if per_channel else None
            spec = QuantizationSpec(bitwidth=bits, narrow=True, channel_axis=axis)
            module.param_quantizers["weight"] = quantizer_of(spec, tuple(module.weight.shape))
    fxquant.calibrate(gm, data, progress=False)
    return gm


def noise(gm: fx.GraphModule, model: nn.Module, x: torch.Tensor) -> float:
    """Return the power of the error of a prepared model's output, as a share of the output's."""
    with torch.no_grad():
        wanted = model(x)
        return float((gm(x) - wanted).square().sum() / wanted.square().sum())
