from typing import Any

import pytest
import torch
from torch import nn

from fxquant.graph import capture
from fxquant.passes import DecomposeAddmm


class Addmm(nn.Module):
    def __init__(self, **factors: float) -> None:
        super().__init__()
        self.weight, self.bias, self.factors = (
            nn.Parameter(torch.randn(4, 3)),
            nn.Parameter(torch.randn(3)),
            factors,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight, **self.factors)


class Linear(nn.Module):
    """A linear layer as core aten writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, torch.permute(self.weight, (1, 0)))


class Scores(nn.Module):
    """Attention with biases, as bloom calls it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.baddbmm(batch1=x, batch2=x.mT, beta=1.0, alpha=0.5)


class Baddbmm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(x, x, x)


@pytest.mark.parametrize(
    ("name", "model", "shape"),
    [
        ("plain", Addmm(), (2, 4)),
        ("factors", Addmm(beta=0.5, alpha=2.0), (2, 4)),
        ("no_sum", Addmm(beta=0), (2, 4)),
        ("linear", Linear(), (2, 4)),
        ("by_keyword", Scores(), (2, 4, 4)),
        ("batched", Baddbmm(), (2, 4, 4)),
    ],
)
def test_an_added_product_is_written_out(
    check_rewrite: Any, name: str, model: nn.Module, shape: tuple[int, ...]
) -> None:
    gm, x = capture(model), torch.randn(shape)
    check_rewrite(gm, DecomposeAddmm(), name)
    torch.testing.assert_close(gm(x), model(x))
