"""Clip: values and gradients of both ends, and which ends can be learned."""

import numpy as np
import pytest
import torch

from fxquant.compat.pytorch_quantization.nn import functional as QF
from fxquant.compat.pytorch_quantization.nn.modules.clip import Clip


@pytest.mark.parametrize("bound", [float, np.float32, torch.tensor], ids=["number", "numpy", "tensor"])
def test_values_are_clipped_to_ends_that_are_not_learned(bound):
    clip = Clip(bound(-0.5), bound(0.75))
    assert clip(torch.tensor([-1.0, 0.1, 2.0])).tolist() == [-0.5, torch.tensor(0.1).item(), 0.75]
    assert clip.state_dict() == {}
    assert list(clip.parameters()) == []


def test_ends_broadcast():
    x = torch.randn(2, 3, 4)
    low, high = -torch.rand(1, 3, 1), torch.rand(1, 3, 1)
    np.testing.assert_array_equal(QF.clip(x, low, high), np.clip(x.numpy(), low.numpy(), high.numpy()))


def test_gradients_go_to_the_value_or_to_the_end_that_replaces_it():
    clip = Clip(-1.0, 1.0, learn_min=True, learn_max=True)
    x = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0], requires_grad=True)
    clip(x).backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert x.grad.tolist() == [0, 0, 4, 0, 0]
    assert clip.clip_value_min.grad == 3
    assert clip.clip_value_max.grad == 24
    assert sorted(clip.state_dict()) == ["clip_value_max", "clip_value_min"]


def test_one_end_learns_alone():
    clip = Clip(-1.0, 1.0, learn_max=True)
    clip(torch.tensor([-2.0, 3.0])).sum().backward()
    assert clip.clip_value_max.grad == 1
    assert [name for name, _ in clip.named_parameters()] == ["clip_value_max"]


@pytest.mark.parametrize("ends", [{"learn_min": True}, {"learn_max": True}], ids=str)
@pytest.mark.parametrize("bound", [torch.tensor(0.3), np.ones(2)], ids=["tensor", "array"])
def test_only_a_number_can_be_learned(ends, bound):
    with pytest.raises(ValueError, match="must be scalar"):
        Clip(bound, bound, **ends)


def test_ends_with_axes_have_no_backward():
    x = torch.randn(3, 7, requires_grad=True)
    clipped = QF.clip(x, -torch.ones(3, 7, requires_grad=True), torch.ones(3, 7))
    with pytest.raises(ValueError, match="can only be scalar"):
        clipped.sum().backward()
