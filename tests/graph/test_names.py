import torch
from torch import nn

from fxquant.graph import capture
from fxquant.graph.names import tensor_names


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.shift = nn.Parameter(torch.zeros(2, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x) + self.shift
        return torch.erfinv(y + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Block(), Block())
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.conv(self.layers(image))
        return self.conv(first) + first


def test_tensors_are_named_after_the_users_layers() -> None:
    assert list(tensor_names(capture(Net())).values()) == [
        "image",
        "layers.0.conv",
        "layers.0.shift",
        "layers.0.add",
        "layers.0.add_1",
        "layers.0.erfinv",
        "layers.1.conv",
        "layers.1.shift",
        "layers.1.add",
        "layers.1.add_1",
        "layers.1.erfinv_1",
        "conv",
        "conv_1",
        "add",
        "output",
    ]


def test_names_are_unique() -> None:
    names = list(tensor_names(capture(Net())).values())
    assert len(names) == len(set(names))


def test_names_are_the_same_on_every_call() -> None:
    gm = capture(Net())
    assert tensor_names(gm) == tensor_names(gm)
