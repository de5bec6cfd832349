"""Multiply-accumulates: what is counted is what torch computes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fxquant.graph import Example, capture
from fxquant.graph.annotations import MACS


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


R = torch.randn
CASES = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2), (R(2, 4, 9),)),
    "grouped conv2d": (nn.Conv2d(4, 8, 3, groups=2, padding=1), (R(2, 4, 6, 5),)),
    "conv3d": (nn.Conv3d(2, 4, 2), (R(1, 2, 4, 4, 4),)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 2, stride=2), (R(2, 4, 5, 5),)),
    "linear": (nn.Linear(5, 7), (R(2, 3, 5),)),
    "functional linear": (Call(F.linear), (R(2, 3, 5), R(7, 5))),
    "functional conv2d": (Call(F.conv2d), (R(2, 4, 6, 5), R(8, 4, 3, 3))),
    "matmul": (Call(torch.matmul), (R(2, 3, 5), R(2, 5, 4))),
    "matmul of a method": (Call(lambda a, b: a @ b), (R(3, 5), R(5, 4))),
    "bmm": (Call(torch.bmm), (R(2, 3, 5), R(2, 5, 4))),
    "addmm": (Call(torch.addmm), (R(4), R(3, 5), R(5, 4))),
    "baddbmm": (Call(torch.baddbmm), (R(2, 3, 4), R(2, 3, 5), R(2, 5, 4))),
    "einsum": (Call(lambda a, b: torch.einsum("bij,bkj->bik", a, b)), (R(2, 3, 5), R(2, 4, 5))),
    "attention": (Call(F.scaled_dot_product_attention), (R(2, 4, 5, 8), R(2, 4, 7, 8), R(2, 4, 7, 6))),
}


@pytest.mark.parametrize("name", CASES)
def test_the_count_is_half_of_what_torch_counts_in_operations(name):
    model, inputs = CASES[name]
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(*inputs)
    gm = capture(model, Example(args=inputs))
    assert sum(node.meta.get(MACS, 0) for node in gm.graph.nodes) * 2 == counted.get_total_flops()


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.LSTM(4, 3, batch_first=True), 10 * 4 * 3 * (4 + 3)),
        (nn.GRU(4, 3), 10 * 3 * 3 * (4 + 3)),
        (nn.Bilinear(4, 4, 5), 10 * 5 * 4 * 4),
    ],
    ids=["lstm", "gru", "bilinear"],
)
def test_layers_that_torch_does_not_count(layer, macs):
    inputs = (R(2, 5, 4),) * (2 if isinstance(layer, nn.Bilinear) else 1)
    gm = capture(nn.Sequential(layer) if len(inputs) == 1 else Call(layer), Example(args=inputs))
    assert sum(node.meta.get(MACS, 0) for node in gm.graph.nodes) == macs
