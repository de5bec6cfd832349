"""Small networks with the structures that whole models are made of."""

import torch
from torch import nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """A plain transformer encoder block on token ids: explicit matmul attention."""

    def __init__(self, heads=4, width=32):
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.position = nn.Parameter(torch.randn(1, 12, width) * 0.1)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, ids):
        x = self.embedding(ids) + self.position
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q = q.view(batch, length, self.heads, -1).transpose(1, 2)
        k = k.view(batch, length, self.heads, -1).transpose(1, 2)
        v = v.view(batch, length, self.heads, -1).transpose(1, 2)
        weights = torch.softmax(q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class FusedAttention(nn.Module):
    """Attention through F.scaled_dot_product_attention, in-place residual, mean pooling."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x += F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(x.mean(dim=1))


class UNet(nn.Module):
    """Down, up by transposed convolution and by interpolation, skip connections by cat."""

    def __init__(self):
        super().__init__()
        self.down1, self.norm1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.down2 = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.up_norm = nn.BatchNorm2d(16)
        self.mix = nn.Conv2d(32, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = F.relu(self.norm1(self.down1(x)), inplace=True)
        deep = F.leaky_relu(self.down2(F.max_pool2d(skip, 2)))
        deep = F.interpolate(deep, scale_factor=2.0, mode="nearest")
        deep = F.relu(self.up_norm(self.up(deep)))
        return self.out(F.relu6(self.mix(torch.cat([skip, deep], dim=1))))


class Functional(nn.Module):
    """Weights as arguments of functions, a matmul with a parameter, constants in arithmetic."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.bias = nn.Parameter(torch.randn(8) * 0.1)
        self.matrix = nn.Parameter(torch.randn(8, 6) * 0.3)
        self.register_buffer("shift", torch.rand(1, 8, 1, 1))

    def forward(self, x):
        y = F.conv2d(x, self.kernel, self.bias, padding=1)
        y = torch.clamp(y, 0, 4).add(self.shift) * 2
        return y.mean((2, 3)) @ self.matrix


class Reuse(nn.Module):
    """One convolution and one activation called twice, on inputs of different ranges."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.conv(x))
        return self.act(self.conv(y * 3.0 + x))


class TwoInputs(nn.Module):
    """Two inputs by keyword, two outputs in a dict."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(24, 32), nn.Linear(16, 32)
        self.head = nn.Linear(32, 16)

    def forward(self, image, text):
        joint = torch.tanh(self.left(image)) * torch.sigmoid(self.right(text))
        return {"logits": self.head(joint), "joint": joint}


class Grouped(nn.Module):
    """Depthwise, grouped and 1-d convolutions, group norm, channel shuffle, squeeze and split."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv1d(8, 8, 1, groups=2)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.hardswish(self.depthwise(x))
        x = self.norm(self.grouped(x))
        first, second = torch.split(x, 4, dim=1)
        x = torch.cat((second, first), dim=1)
        return self.head(F.adaptive_avg_pool1d(x, 1).squeeze(-1))


def cases():
    """Return name -> (network in evaluation mode, batch)."""
    torch.manual_seed(0)
    return {
        "encoder": (Encoder().eval(), torch.randint(0, 50, (3, 12))),
        "fused_attention": (FusedAttention().eval(), torch.randn(3, 7, 16)),
        "unet": (UNet().eval(), torch.randn(2, 3, 16, 16)),
        "functional": (Functional().eval(), torch.randn(2, 3, 8, 8)),
        "reuse": (Reuse().eval(), torch.randn(2, 16, 8, 8)),
        "two_inputs": (TwoInputs().eval(), {"image": torch.randn(5, 24), "text": torch.randn(5, 16)}),
        "grouped": (Grouped().eval(), torch.randn(2, 8, 10)),
    }
