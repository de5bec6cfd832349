"""DecomposeGroupNorm: group norms as layer norms of each group."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.graph import Example, Report, capture
from fxquant.passes import DecomposeGroupNorm


class Norms(nn.Module):
    """A norm of parameters that were trained, one of fresh ones, and one that is a call."""

    def __init__(self) -> None:
        super().__init__()
        self.trained, self.fresh = nn.GroupNorm(2, 4), nn.GroupNorm(4, 4, eps=1e-3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.trained.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(self.fresh(self.trained(x)), 2, self.trained.weight)


def test_group_norm_is_a_layer_norm_of_each_group(check_rewrite: Callable[..., Report]) -> None:
    model, x = Norms().eval(), torch.randn(2, 4, 3, 5)
    gm = capture(model, Example(args=(x,)))
    check_rewrite(gm, DecomposeGroupNorm(), "norms")
    torch.testing.assert_close(gm(x), model(x))


def test_group_norm_of_unknown_sizes_is_declined(check_rewrite: Callable[..., Report]) -> None:
    check_rewrite(capture(nn.Sequential(nn.GroupNorm(2, 4))), DecomposeGroupNorm(), "unknown_sizes")


@pytest.mark.htp
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "steps"), [("w8a8", 1), ("w8a16", 3)])  # V75 is that exact at 16 bits
def test_group_norm_runs_in_integers_on_the_chip(scheme: str, steps: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = Norms().trained
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 8, 1)), torch.randn(1, 3, 8, 8)
    prepared = fxquant.prepare(model.eval(), x, target=f"qualcomm:{scheme}")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared)
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [x], runtime="htp")
    assert (report.fallbacks, report.float_islands) == ((), ())
    assert report.max_steps <= steps
