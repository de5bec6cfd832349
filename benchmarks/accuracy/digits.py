"""The digits of scikit-learn at 32 x 32, and the networks trained on them, a minute each the first time.

Knows nothing of fxquant.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.accuracy.networks import ResidualNet, SeparableNet, rescale_channels

NAMES = ("resnet", "depthwise", "depthwise, rescaled")
CALIBRATION = 256
"""Images of the training part that ranges are found on."""

_EPOCHS, _BATCH, _RATE, _DECAY = 30, 64, 4e-3, 1e-2
_MAX_SHIFT = 3  # pixels of 32
_VERSION = 1  # of what is trained: another one trains anew


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Images, [N, 1, 32, 32] in [0, 1], and labels, [N]; every third image is held out."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits() -> Digits:
    """Return the images, 8 x 8 made 32 x 32 by bilinear interpolation."""
    from sklearn import datasets  # a second to import, which reading a document does not need

    found = datasets.load_digits()
    images = torch.from_numpy(found.images).float().unsqueeze(1) / 16
    images = F.interpolate(images, size=32, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(found.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out, kept = order[: len(order) // 3], order[len(order) // 3 :]
    return Digits(
        train_images=images[kept],
        train_labels=labels[kept],
        test_images=images[held_out],
        test_labels=labels[held_out],
    )


def load_network(name: str, digits: Digits) -> nn.Module:
    """Return a trained network in evaluation mode; its weights are kept outside the repository."""
    kind = "resnet" if name == "resnet" else "depthwise"
    path = cache_folder() / f"{kind}-{_VERSION}-torch{torch.__version__}.safetensors"
    model = ResidualNet() if kind == "resnet" else SeparableNet()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(train(model, digits).state_dict(), path)
    model.load_state_dict(load_file(path))
    if name == "depthwise, rescaled":
        rescale_channels(model)
    return model.eval()


def cache_folder() -> Path:
    """Return where trained weights are kept: $FXQUANT_CACHE, or fxquant in the user's cache."""
    return Path(os.environ.get("FXQUANT_CACHE") or Path.home() / ".cache" / "fxquant") / "accuracy"


def train(model: nn.Module, digits: Digits, epochs: int = _EPOCHS) -> nn.Module:
    """Train a network anew from a fixed seed, on one thread, and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        images, labels = digits.train_images, digits.train_labels
        steps = len(labels) // _BATCH
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * steps)
        model.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(labels))[: steps * _BATCH].split(_BATCH):
                scores = model(_shifted(images[batch]))
                loss = F.cross_entropy(scores, labels[batch], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def _shifted(images: Tensor) -> Tensor:
    """Move a batch by up to some pixels each way; paper (0) fills the gap."""
    down, right = torch.randint(-_MAX_SHIFT, _MAX_SHIFT + 1, (2,)).tolist()
    return F.pad(images, (right, -right, down, -down))
