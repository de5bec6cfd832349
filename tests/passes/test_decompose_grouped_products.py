from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.graph import Example, Report, capture, coverage_of
from fxquant.graph.groups import join_groups, split_groups
from fxquant.passes import DecomposeGroupedProducts

grouped_mm = pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")
ENDS = torch.tensor([3, 3, 8], dtype=torch.int32)  # the second group has no rows


class Experts(nn.Module):
    """Three experts behind a router, as transformers writes them."""

    def __init__(self, *, is_transposed: bool) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        self.experts = nn.Parameter(torch.randn(3, 8, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        choice = x[:, :3].argmax(-1)
        order = torch.argsort(choice)
        ends = torch.cumsum(F.one_hot(choice, 3).sum(0), 0).to(torch.int32)
        weight = self.experts.transpose(-2, -1) if self.is_transposed else self.experts
        rows = F.grouped_mm(x[order], weight, offs=ends)
        return torch.zeros_like(rows).index_copy(0, order, rows)


def rows(is_transposed: bool) -> torch.Tensor:
    return torch.randn(10, 16 if is_transposed else 8)


@grouped_mm
@pytest.mark.parametrize("is_transposed", [True, False], ids=["out in", "in out"])
def test_a_grouped_product_is_written_out(check_rewrite: Any, is_transposed: bool) -> None:
    model, x = Experts(is_transposed=is_transposed), rows(is_transposed)
    gm = capture(model, Example(args=(x,)))
    macs = coverage_of(gm).macs
    check_rewrite(gm, DecomposeGroupedProducts(), "transposed" if is_transposed else "plain")
    torch.testing.assert_close(gm(x), model(x))
    assert coverage_of(gm).macs == macs == 10 * 8 * 16


@grouped_mm
def test_experts_share_the_memory_of_the_stacked_weight() -> None:
    gm = capture(Experts(is_transposed=True), Example(args=(rows(True),)))
    DecomposeGroupedProducts()(gm, Report())
    taken = [gm.get_parameter(f"experts_{index}") for index in range(3)]
    assert len({parameter.untyped_storage().data_ptr() for parameter in taken}) == 1


@grouped_mm
def test_a_computed_weight_is_left() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return F.grouped_mm(x, weight, offs=ENDS)

    gm, report = capture(Scaled(), Example(args=(torch.randn(8, 8), torch.randn(3, 8, 16)))), Report()
    DecomposeGroupedProducts()(gm, report)
    assert "computed" in report.declined("decompose-grouped-products")[0].reason


@grouped_mm
@pytest.mark.parametrize("is_transposed", [True, False], ids=["out in", "in out"])
def test_experts_run_quantized_and_the_file_agrees(is_transposed: bool, tmp_path: Any) -> None:
    model, x = Experts(is_transposed=is_transposed), rows(is_transposed)
    quantized = fxquant.quantize(model, [x], target="onnxruntime").model
    assert fxquant.report(quantized).coverage.share_of_macs == 1.0
    files = fxquant.export(quantized, tmp_path)
    fresh = [rows(is_transposed) for _ in range(3)]
    assert fxquant.verify(quantized, files, fresh).max_steps <= 1


@grouped_mm
def test_rows_of_no_group_are_zero_in_the_file_too(tmp_path: Any) -> None:
    class SomeRows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Parameter(torch.randn(3, 8, 16))
            self.register_buffer("ends", torch.tensor([2, 5, 6], dtype=torch.int32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.grouped_mm(x, self.experts, offs=self.ends) + 1

    quantized = fxquant.quantize(SomeRows(), [torch.randn(8, 8)], target="onnxruntime").model
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [torch.randn(8, 8)])
    assert report.max_steps <= 1
    assert not any(name == "experts" for name, _ in quantized.named_parameters())


def test_groups_are_joined_as_they_were() -> None:
    x = torch.randn(8, 4)
    parts = split_groups(x, ENDS)
    assert [part.shape[0] for part in parts] == [3, 0, 5]
    assert torch.equal(join_groups(parts, x), x)


def test_rows_of_no_group_are_zero() -> None:
    x = torch.randn(10, 4)
    joined = join_groups(split_groups(x, ENDS), x)
    assert torch.equal(joined[:8], x[:8])
    assert not joined[8:].any()
