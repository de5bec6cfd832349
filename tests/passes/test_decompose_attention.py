from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.graph import Example, Report, capture
from fxquant.passes import DecomposeAttention

Q, K, V = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 6)
HALF_K, HALF_V = K[:, :2], V[:, :2]
MASK = torch.ones(5, 7).tril().bool()


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, **self.options)


CASES = {
    "plain": ({}, (Q, K, V)),
    "scaled": ({"scale": 0.3}, (Q, K, V)),
    "causal": ({"is_causal": True}, (Q, K, V)),
    "boolean_mask": ({"attn_mask": MASK}, (Q, K, V)),
    "added_mask": ({"attn_mask": torch.randn(5, 7)}, (Q, K, V)),
    "grouped": ({"enable_gqa": True}, (Q, HALF_K, HALF_V)),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_is_written_out(check_rewrite: Any, name: str) -> None:
    options, inputs = CASES[name]
    model = Attention(**options)
    gm = capture(model, Example(args=inputs))
    check_rewrite(gm, DecomposeAttention(), name)
    # sums of a few products in another order
    torch.testing.assert_close(gm(*inputs), model(*inputs), rtol=1e-5, atol=1e-6)


def test_multiply_accumulates_are_those_of_the_products() -> None:
    gm = capture(Attention(), Example(args=(Q, K, V)))
    before = sum(node.meta.get("macs", 0) for node in gm.graph.nodes)
    DecomposeAttention()(gm, Report())
    assert [node.meta["macs"] for node in gm.graph.nodes if "macs" in node.meta] == [2240, 1680]
    assert before == 2240 + 1680


def test_attention_that_drops_at_random_stays(check_rewrite: Any) -> None:
    gm = capture(Attention(dropout_p=0.5), Example(args=(Q, K, V)))
    (site,) = check_rewrite(gm, DecomposeAttention(), "random").sites
    assert not site.applied


def test_attention_of_unknown_sizes_stays() -> None:
    report = Report()
    DecomposeAttention()(capture(Attention()), report)
    (site,) = report.sites
    assert "prepare with example_inputs" in site.reason
