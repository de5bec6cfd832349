"""Small models that together hold every structure the passes look for; each runs in a millisecond."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

Inputs = tuple[torch.Tensor, ...]


class Residual(nn.Module):
    """An identity shortcut, a down-sample shortcut, in-place activations, batch norm, dropout, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv3, self.short = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(4, 8, 1)
        self.relu, self.pool, self.drop = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)) + x)
        x = F.relu(self.conv3(x).add_(self.short(x)), inplace=True)
        x = F.adaptive_avg_pool2d(self.pool(x), 1).flatten(1)
        return self.fc(self.drop(x))


class Branches(nn.Module):
    """Concatenations of convolutions, a max-pool and a sigmoid, one inside the other; a gate at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.mix, self.gate, self.out = nn.Conv2d(12, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        inner = torch.cat([self.pool(x), torch.sigmoid(self.left(x))], 1)
        x = F.relu(self.mix(torch.cat([inner, self.right(x)], dim=1)))
        gate = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        return self.out(x * gate)


class Attention(nn.Module):
    """Matrix products of activations and with a parameter, a split, reshapes by sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.mix = nn.Parameter(torch.randn(8, 8) * 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length = x.shape[0], x.size(1)
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, 8).unbind(2)
        weights = torch.softmax(q @ k.transpose(1, 2) * 8**-0.5, dim=-1)
        return x + (weights @ v) @ self.mix


class Reuse(nn.Module):
    """Two inputs; one convolution, one activation and one function called at several places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(F.avg_pool2d(x, 2)))
        y = self.relu(self.conv(F.avg_pool2d(y, 2)))
        joined = (self.conv(x) + self.conv(y)).mean((2, 3))
        return self.fc(self.fc(joined) * y.size(1))


class Decoder(nn.Module):
    """A transposed convolution with a batch norm, a skip connection, a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 8, 2, stride=2)
        self.up, self.norm = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2), nn.BatchNorm2d(4)
        self.out, self.shuffle = nn.Conv2d(6, 4, 1), nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = F.relu(self.norm(self.up(F.relu(self.down(x)))))
        return self.shuffle(self.out(torch.cat([x, up], 1)))


class Functional(nn.Module):
    """No layer at all: functions on parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(6))
        self.register_buffer("shift", torch.randn(6))
        self.register_buffer("table", torch.randn(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.linear(x, self.weight, self.bias) + self.shift)
        return (x * 0.5) @ self.table


# name -> the model's class and the shapes of its inputs
_MODELS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "residual": (Residual, [(2, 4, 8, 8)]),
    "branches": (Branches, [(2, 3, 6, 6)]),
    "attention": (Attention, [(2, 5, 8)]),
    "reuse": (Reuse, [(2, 2, 8, 8), (2, 2, 8, 8)]),
    "decoder": (Decoder, [(2, 2, 8, 8)]),
    "functional": (Functional, [(5, 4)]),
}

NAMES = tuple(_MODELS)


def build(name: str) -> tuple[nn.Module, Inputs]:
    """Return the model called `name`, in evaluation mode, and inputs for it; the same ones every time."""
    make, shapes = _MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        return model, tuple(torch.randn(shape) for shape in shapes)
