"""Clipping: its gradient is autograd's own, but at the ends, which take it all."""

import pytest
import torch

from fxquant.quantization.clip import clip


def test_gradients_are_autograds_off_the_ends():
    low, high = torch.tensor(-0.5), torch.tensor(0.7)
    x, gradient = torch.randn(1000), torch.randn(1000)
    found = []
    for function in (clip, lambda x, low, high: torch.minimum(torch.maximum(x, low), high)):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, low, high)]
        function(*leaves).backward(gradient)
        found.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # sums of 1,000 in another order


@pytest.mark.parametrize("value", [-1.0, 2.0], ids=["low", "high"])
def test_a_value_at_an_end_gives_its_gradient_to_the_end(value):
    x, low, high = (torch.tensor(v, requires_grad=True) for v in (value, -1.0, 2.0))
    clip(x, low, high).backward()
    assert [x.grad, low.grad, high.grad] == [0, value == -1, value == 2]


def test_ends_are_scalars_in_the_backward():
    x = torch.randn(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="can only be scalar"):
        clip(x, -torch.ones(1, 3), torch.ones(1, 3)).sum().backward()
