"""Ops on boxes, as modules; they need torchvision."""

from types import ModuleType
from typing import Any

import torch
from torch import nn

from fxquant.errors import OptionError


class RoiAlign(nn.Module):
    """The features inside boxes, resampled to one size, as ONNX RoiAlign."""

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, inp: torch.Tensor, roi: torch.Tensor, batch_indices: torch.Tensor) -> torch.Tensor:
        """Return [boxes, channels, *output_size]; roi: [boxes, 4], batch_indices: [boxes]."""
        boxes = torch.cat((batch_indices.reshape(-1, 1), roi), dim=1)
        features: torch.Tensor = _torchvision_ops().roi_align(
            inp, boxes, self.output_size, self.spatial_scale, self.sampling_ratio
        )
        return features


class NonMaxSuppression(nn.Module):
    """The boxes of each class that overlap no better one, as ONNX NonMaxSuppression; never quantized."""

    def __init__(self, iou_threshold: float, score_threshold: float, max_output_boxes_per_class: int) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.max_output_boxes_per_class = max_output_boxes_per_class

    def forward(self, *args: Any) -> torch.Tensor:
        """Return (batch, class, box) for each box kept, int64, padded with zeros to the largest number.

        The arguments are boxes [batch, boxes, 4] as (y1, x1, y2, x2) and scores [batch, classes, boxes].
        """
        boxes, scores = args
        found = [
            torch.stack([torch.full_like(kept, batch), torch.full_like(kept, label), kept], dim=1)
            for batch in range(scores.shape[0])
            for label in range(scores.shape[1])
            for kept in [self._kept(boxes[batch], scores[batch, label])]
        ]
        rows = torch.cat(found)
        most = scores.shape[0] * scores.shape[1] * self.max_output_boxes_per_class
        return torch.cat([rows, rows.new_zeros(most - rows.shape[0], 3)])

    def _kept(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the indices of the boxes of one class to keep, the best first."""
        likely = (scores > self.score_threshold).nonzero()[:, 0]
        by_corner = boxes[likely][:, [1, 0, 3, 2]]
        best: torch.Tensor = _torchvision_ops().nms(by_corner, scores[likely], self.iou_threshold)
        return likely[best][: self.max_output_boxes_per_class]


def _torchvision_ops() -> ModuleType:
    """Return torchvision.ops, imported when it is needed: it takes seconds."""
    try:
        from torchvision import ops  # type: ignore[import-untyped]  # ships no types
    except ImportError as error:
        raise OptionError("Boxes need torchvision.", remedy="Run: pip install torchvision.") from error
    module: ModuleType = ops
    return module
