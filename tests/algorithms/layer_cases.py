"""Prepared models of one layer or two, of every kind and grid, on data whose channels go together."""

import copy
from collections.abc import Callable

import torch
from torch import fx, nn

import fxquant
from fxquant.algorithms.layers import layers_of
from fxquant.calibration import CalibrationInterpreter
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize

Batches = list[torch.Tensor]

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(64, 16),
    "convolution": lambda: nn.Conv2d(8, 16, 3, padding=1, stride=2),
    "grouped": lambda: nn.Conv2d(8, 16, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "transposed": lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "grouped transposed": lambda: nn.ConvTranspose2d(8, 6, 3, groups=2),
}

GRIDS: dict[str, Callable[[], QuantizeDequantize]] = {
    "per tensor": lambda: QuantizeDequantize((), 4, True),
    "per channel": lambda: QuantizeDequantize((16, 1), 4, True),
    "asymmetric": lambda: QuantizeDequantize((16, 1), 4, False),
    "blocks of 32": lambda: QuantizeDequantize((16, 2), 4, True, block_size=(1, 32)),
    "LPBQ": lambda: GroupedBlockQuantizeDequantize(
        (16, 4), 4, True, 8, block_size=(1, 16), block_grouping=(1, -1)
    ),
}


def data(layer: nn.Module, batches: int = 4) -> Batches:
    """Return inputs for a layer: what neighbouring places and channels hold is nearly the same."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(layer, nn.Linear):
        mix = torch.randn(12, layer.in_features, generator=generator)
        return [torch.randn(64, 12, generator=generator) @ mix for _ in range(batches)]
    channels = int(layer.in_channels)
    coarse = [torch.randn(4, 3, 4, 4, generator=generator) for _ in range(batches)]
    mix = torch.randn(channels, 3, generator=generator)
    fine = [nn.functional.interpolate(x, size=(9, 9), mode="bilinear") for x in coarse]
    return [torch.einsum("nchw,dc->ndhw", x, mix) + 0.5 for x in fine]


def prepared(kind: str, grid: str | None = None) -> tuple[fx.GraphModule, Batches]:
    """Return a calibrated model of one layer, and its data; 4 bits, by channel where no grid is named."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    batches = data(layer)
    gm = fxquant.prepare(nn.Sequential(layer), batches[0], target="qualcomm")
    held = gm.get_submodule("0").param_quantizers
    held["weight"] = QuantizeDequantize(held["weight"].shape, 4, True) if grid is None else GRIDS[grid]()
    fxquant.calibrate(gm, batches, progress=False)
    return gm, batches


def stacked(target: str = "onnxruntime:w4a8", *, norm: bool = False) -> tuple[fx.GraphModule, Batches]:
    """Return a calibrated model of layers one after the other, and its data, some channels far too large."""
    torch.manual_seed(0)
    first: list[nn.Module] = [nn.LayerNorm(64)] if norm else []
    model = nn.Sequential(
        *first, nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 8)
    )
    scale = torch.ones(64)
    scale[::16] = 30.0
    if norm:
        with torch.no_grad():
            model[0].weight.copy_(scale)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(64, 64, generator=generator) * (1.0 if norm else scale) for _ in range(4)]
    gm = fxquant.prepare(model, batches[0], target=target)
    fxquant.calibrate(gm, batches, progress=False)
    return gm, batches


def in_float(gm: fx.GraphModule, x: torch.Tensor) -> torch.Tensor:
    """Return what a prepared model gives without its quantizers."""
    with torch.no_grad():
        found: torch.Tensor = CalibrationInterpreter(gm).run_all(x)
    return found


def error(gm: fx.GraphModule, reference: fx.GraphModule, batches: Batches) -> float:
    """Return the power of what a model gives less what another gives in float, as a share of the latter's."""
    noise = power = 0.0
    with torch.no_grad():
        for batch in batches:
            wanted = in_float(reference, batch)
            noise += float((gm(batch) - wanted).square().sum())
            power += float(wanted.square().sum())
    return noise / power


def weights(gm: fx.GraphModule) -> list[torch.Tensor]:
    """Return copies of the weights of a model's layers."""
    return [layer.weight.detach().clone() for layer in layers_of(gm, gm.graph.nodes)[0]]


def on_grid(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a model whose weights all lie on their grid, and whose ranges stay."""
    copied = copy.deepcopy(gm)
    for layer in layers_of(copied, copied.graph.nodes)[0]:
        layer.weight.data.copy_(layer.quantizer(layer.weight.detach()))
    return copied
