"""DigitsNet: a small residual network with squeeze-excite gates, for 16x16 images of digits.

It is written the way networks are usually written, part nn.Module and part functional: additions, gates and a
concatenation are plain Python in `forward`, and each batch norm is still a module of its own.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SQUEEZED_CHANNELS = 8  # both gates


class DigitsNet(nn.Module):
    """Classify a grey image of one digit.

    Stem and max pool (16x16 to 8x8), a residual block (8x8), a strided residual block (4x4), two parallel
    branches with 1x1 and 3x3 filters, their fusion, and a linear head. Of the 142,074 parameters the fusion
    holds two thirds: most weights sit behind few output channels, as in networks of the usual size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 16, kernel=3)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.block1 = ResidualBlock(16, 16, squash=torch.sigmoid)
        self.block2 = ResidualBlock(16, 32, stride=2, squash=F.hardsigmoid)
        self.branch1 = _conv(32, 16, kernel=1)
        self.branch1_bn = nn.BatchNorm2d(16)
        self.branch3 = _conv(32, 80, kernel=3)
        self.branch3_bn = nn.BatchNorm2d(80)
        self.fuse = _conv(96, 112, kernel=3)
        self.fuse_bn = nn.BatchNorm2d(112)
        self.head = nn.Linear(112, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the ten digits.

        Args:
            x: [N, 1, 16, 16] float32 in [0, 1].

        Returns:
            [N, 10] logits.
        """
        x = self.pool(self.relu(self.bn(self.stem(x))))
        x = self.block1(x)
        x = self.block2(x)
        narrow = F.relu(self.branch1_bn(self.branch1(x)))
        wide = F.relu(self.branch3_bn(self.branch3(x)))
        x = torch.cat([narrow, wide], dim=1)
        x = F.relu(self.fuse_bn(self.fuse(x)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        logits: Tensor = self.head(x)
        return logits


class ResidualBlock(nn.Module):
    """Add a gated pair of 3x3 convolutions to the input.

    The shortcut is the input itself where shapes agree, else a strided 1x1 convolution of it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, squash: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, kernel=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.conv2 = _conv(out_channels, out_channels, kernel=3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.gate = SqueezeExcite(out_channels, squash=squash)
        self.keeps_shape = stride == 1 and in_channels == out_channels
        if not self.keeps_shape:
            self.shortcut = _conv(in_channels, out_channels, kernel=1, stride=stride)
            self.shortcut_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride], values >= 0."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.gate(self.bn2(self.conv2(y)))
        if not self.keeps_shape:
            x = self.shortcut_bn(self.shortcut(x))
        return F.relu(x + y)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that is computed from the means of all channels.

    `squash` maps any number to a gate in [0, 1].
    Source: Hu et al., Squeeze-and-Excitation Networks, section 3.
    """

    def __init__(self, channels: int, *, squash: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, SQUEEZED_CHANNELS, kernel_size=1)
        self.expand = nn.Conv2d(SQUEEZED_CHANNELS, channels, kernel_size=1)
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, channels, H, W] to the same shape."""
        means = F.adaptive_avg_pool2d(x, 1)
        return x * self.squash(self.expand(F.relu(self.reduce(means))))


def load_trained() -> DigitsNet:
    """Return the float32 network in eval mode with the weights that `train.py` wrote beside this file.

    The file holds float16, because it lives in the repository and this halves it; each value widens to
    float32 exactly. The rule for what it leaves out: integer buffers, here only `num_batches_tracked` of the
    batch norms, which eval mode does not read. They keep the zero of a new network. All else must be stored.

    Raises:
        FileNotFoundError: `digits.safetensors` is missing; run `train.py` to write it.
        RuntimeError: the file was written for another version of DigitsNet; run `train.py` again.
    """
    model = DigitsNet()
    integers = {name: value for name, value in model.state_dict().items() if not value.is_floating_point()}
    model.load_state_dict(integers | load_file(WEIGHTS))
    return model.eval()


def _conv(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Build a convolution that keeps the image size (divided by `stride`); a batch norm adds the bias."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
