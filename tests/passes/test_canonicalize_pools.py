from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxquant.graph import Example, Report, capture
from fxquant.passes import CanonicalizePools


class Means(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            x.mean((2, 3), keepdim=True),
            torch.mean(x, dim=(-1, -2), keepdim=True),
            x.mean((2, 3)),
            x.mean((1, 2), keepdim=True),
            x.mean(),
        )


IMAGE = torch.linspace(-2.0, 3.0, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


def test_mean_over_all_positions_of_an_image_is_a_pool(check_rewrite: Callable[..., Report]) -> None:
    check_rewrite(capture(Means(), Example(args=(IMAGE,))), CanonicalizePools(), "means")


def test_mean_of_something_of_unknown_rank_is_left(check_rewrite: Callable[..., Report]) -> None:
    check_rewrite(capture(Means()), CanonicalizePools(), "unknown_rank")


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 2, 2, 5)], ids=["image", "volume"])
def test_pool_gives_the_mean(shape: tuple[int, ...]) -> None:
    dims = tuple(range(2, len(shape)))

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dims, keepdim=True)

    x = torch.randn(shape)
    gm = capture(Mean(), Example(args=(x,)))
    assert CanonicalizePools()(gm, Report())
    bound = x.abs().sum(dims).max().item() * 2**-23  # two sums of n numbers in float32, divided by n
    torch.testing.assert_close(gm(x), x.mean(dims, keepdim=True), rtol=0.0, atol=bound)
