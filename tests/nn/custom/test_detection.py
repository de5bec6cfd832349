"""Ops on boxes; torchvision's own, which not every installation can load, are stood in for."""

from types import SimpleNamespace

import pytest
import torch

from fxquant.nn import custom
from fxquant.nn.custom import detection
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn.cases import normal


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Keep all boxes, the best first."""
    return scores.argsort(descending=True)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def roi_align(features: torch.Tensor, boxes: torch.Tensor, *options: object) -> torch.Tensor:
        return features.mean() + boxes

    monkeypatch.setattr(detection, "_torchvision_ops", lambda: SimpleNamespace(roi_align=roi_align, nms=nms))


def test_boxes_are_given_with_their_image() -> None:
    boxes, images = normal(2, 4), torch.tensor([1.0, 0.0])
    output = custom.RoiAlign(7, 1.0, 2)(torch.zeros(1, 1, 2, 2), boxes, images)
    assert torch.equal(output, torch.cat([images[:, None], boxes], dim=1))


def test_features_and_boxes_are_quantized() -> None:
    module, quantizer = custom.QuantizedRoiAlign(7, 1.0, 2), QuantizeDequantize((), 4, True)
    quantizer.set_range(-3.0, 3.0)
    module.input_quantizers[1] = quantizer
    boxes, images = normal(2, 4), torch.zeros(2)
    assert torch.equal(module(torch.zeros(1, 1, 2, 2), boxes, images)[:, 1:], quantizer(boxes))


def test_suppression_gives_batch_class_and_box_of_the_best() -> None:
    scores = torch.tensor([[[0.1, 0.9, 0.8], [0.2, 0.1, 0.7]]])
    output = custom.NonMaxSuppression(0.5, 0.15, 2)(normal(1, 3, 4), scores)
    assert output.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 2], [0, 1, 0]]


def test_places_without_a_box_are_zero() -> None:
    output = custom.NonMaxSuppression(0.5, 0.75, 2)(normal(1, 3, 4), torch.tensor([[[0.1, 0.9, 0.2]]]))
    assert output.tolist() == [[0, 0, 1], [0, 0, 0]]
