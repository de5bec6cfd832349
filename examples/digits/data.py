"""Load the handwritten digits of scikit-learn with one fixed split into training and held-out images."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

HELD_OUT = 599  # one third of the 1797 images
SPLIT_SEED = 0
INK_LEVELS = 16.0  # a raw pixel counts the dark points of a 4x4 cell: 0 to 16
IMAGE_SIZE = 16  # raw images are 8x8: too few pixels to pool and stride more than once


@dataclass(frozen=True, kw_only=True)
class Split:
    """Hold the images and labels of both parts of the dataset.

    Attributes:
        train_images: [1198, 1, 16, 16] float32 in [0, 1]; 0 is paper and 1 is ink.
        train_labels: [1198] int64 in 0..9.
        test_images: [599, 1, 16, 16] float32, same range; held out from training.
        test_labels: [599] int64 in 0..9.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_split() -> Split:
    """Load the digits, scaled to [0, 1] and upsampled bilinearly to 16x16.

    The split is stratified by digit and the same on every call. The dataset ships with scikit-learn, so
    nothing is downloaded. It names no writers: one writer's digits can be in both parts.
    """
    digits = load_digits()
    images = _prepare(digits.images)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=digits.target, random_state=SPLIT_SEED
    )
    return Split(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


def _prepare(raw: np.ndarray) -> Tensor:
    """Turn [N, 8, 8] pixel counts in 0..16 into [N, 1, 16, 16] float32 images in [0, 1]."""
    images = torch.from_numpy(raw.astype(np.float32)).unsqueeze(1) / INK_LEVELS
    return F.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
