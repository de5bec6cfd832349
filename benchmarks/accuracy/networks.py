"""Two small networks for 32 x 32 grey images, and channels of very different scale without another function.

Knows nothing of fxquant.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10
_EXPONENT = 4  # channels are scaled by 2^-4 to 2^4


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the input, or a strided 1x1 convolution of it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A stem of stride 2, four residual blocks, a linear head: 0.17 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            ResidualBlock(16, 16, 1),
            ResidualBlock(16, 32, 2),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 64, 1),
        )
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 1, 32, 32] to [N, 10] logits."""
        x = self.blocks(F.relu(self.bn(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H / stride, W / stride]."""
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class SeparableNet(nn.Module):
    """A stem of stride 2, five depthwise-separable blocks, a linear head: 17 k parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            SeparableBlock(16, 32, 1),
            SeparableBlock(32, 48, 2),
            SeparableBlock(48, 48, 1),
            SeparableBlock(48, 96, 2),
            SeparableBlock(96, 96, 1),
        )
        self.head = nn.Linear(96, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 1, 32, 32] to [N, 10] logits."""
        x = self.blocks(F.relu(self.bn(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@torch.no_grad()
def rescale_channels(model: SeparableNet, seed: int = 0) -> None:
    """Scale every channel between two layers by a power of two, and divide what reads it, in place.

    A batch norm followed by ReLU gives s times its output when its weight and bias are s times as large; for
    powers of two the function stays the same to the last bit. Such nets come from training with weight decay
    and from folding: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization, section 3.
    """
    generator = torch.Generator().manual_seed(seed)
    norms, readers = [model.bn], [model.blocks[0].depthwise]
    for index, block in enumerate(model.blocks):
        is_last = index == len(model.blocks) - 1
        norms += [block.bn1, block.bn2]
        readers += [block.pointwise, model.head if is_last else model.blocks[index + 1].depthwise]
    for norm, reader in zip(norms, readers, strict=True):
        exponents = torch.randint(-_EXPONENT, _EXPONENT + 1, norm.weight.shape, generator=generator)
        scale = torch.exp2(exponents.float())
        norm.weight.mul_(scale)
        norm.bias.mul_(scale)
        channel = 0 if getattr(reader, "groups", 1) > 1 else 1
        reader.weight.div_(scale.reshape([-1 if dim == channel else 1 for dim in range(reader.weight.ndim)]))
