from typing import Any

import pytest
import torch
from torch import nn

from fxquant.ops import op_of_module
from fxquant.ops.product_form import ProductForm

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(6, 5), (3, 6)),
    (nn.Linear(6, 5), (2, 4, 3, 6)),
    (nn.Linear(6, 5), (6,)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    (nn.Conv1d(4, 6, 3, padding="same", dilation=2), (2, 4, 9)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 4, 7, 8)),
    (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 7, 8)),
    (nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5)),
    (nn.Conv3d(2, 4, 2, padding=1, groups=2), (2, 2, 3, 4, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 4, 5, 4)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 3), dilation=(2, 1)), (2, 4, 5, 4)),
    (nn.ConvTranspose3d(2, 4, 2, stride=2), (2, 2, 3, 3, 2)),
]
IDS = [f"{number}-{layer}-{shape}" for number, (layer, shape) in enumerate(LAYERS)]


def form_of(layer: nn.Module) -> ProductForm:
    op = op_of_module(layer)
    assert op is not None
    assert op.product is not None
    return op.product


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=IDS)
def test_product_of_patches_and_rows_is_what_the_layer_computes(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    form = form_of(layer)
    product = form.patches(layer, x) @ form.rows(layer, layer.weight).mT
    groups, places, outputs = product.shape
    output = layer(x) - layer.bias.reshape(-1, *[1] * (layer.weight.dim() - 2))
    if not isinstance(layer, nn.Linear):
        output = output if output.dim() == layer.weight.dim() else output[None]
        output = output.movedim(1, -1)
    expected = output.reshape(places, groups, outputs).transpose(0, 1)
    torch.testing.assert_close(product, expected)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=IDS)
def test_rows_turn_back_into_the_weight(layer: Any, shape: tuple[int, ...]) -> None:
    form = form_of(layer)
    again = form.of_rows(layer, form.rows(layer, layer.weight))
    torch.testing.assert_close(again, layer.weight, atol=0.0, rtol=0.0)


def test_channels_of_the_weight_are_rows() -> None:
    for layer, _ in LAYERS:
        op, form = op_of_module(layer), form_of(layer)
        assert op is not None
        assert op.weight is not None
        weight: Any = layer.weight
        numbers = torch.arange(weight.shape[op.weight.channel_axis])
        shape = [-1 if axis == op.weight.channel_axis else 1 for axis in range(weight.dim())]
        rows = form.rows(layer, numbers.reshape(shape).expand(weight.shape))
        assert bool((rows == rows[..., :1]).all())
