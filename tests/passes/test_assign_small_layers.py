from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from fxquant.graph import Example, Report, capture
from fxquant.passes import AssignSmallLayers, parse
from fxquant.targets import get_target

BEFORE = "canonicalize,remove-noop,swap-layers,fold-batch-norm,assign-specs{target=tensorrt}"


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.narrow, self.wide = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 16, 3)
        self.depthwise, self.pointed = nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 16, 1, groups=16)
        self.long, self.odd = nn.Conv2d(16, 12, (1, 3)), nn.Conv2d(12, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pointed(self.depthwise(self.wide(self.narrow(self.first(x)))))
        return self.odd(self.long(x))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.whole, self.grouped = nn.ConvTranspose2d(4, 4, 2), nn.ConvTranspose2d(4, 4, 2, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(self.whole(x))


class Products(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.large, self.few, self.one = nn.Linear(32, 32), nn.Linear(32, 10), nn.Linear(10, 1)
        self.matrix = nn.Parameter(torch.zeros(32, 24))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.large(x)
        return x @ self.matrix, self.one(self.few(x)), x @ x.transpose(-1, -2), x @ x[:, 0, :, None]


SEQUENCE = torch.zeros(2, 20, 32)


def graph(model: nn.Module, *inputs: torch.Tensor) -> fx.GraphModule:
    """The graph of a model, recorded on inputs where there are some, with what is to be quantized."""
    gm = capture(model.eval(), Example(args=inputs) if inputs else None)
    parse(BEFORE).run(gm, Report())
    return gm


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        pytest.param(Convolutions(), (), id="convolutions"),
        pytest.param(Transposed(), (), id="transposed"),
        pytest.param(Products(), (SEQUENCE,), id="products"),
        pytest.param(Products(), (SEQUENCE[:, :1],), id="products_of_one_row"),
        pytest.param(Products(), (), id="products_of_unknown_sizes"),
    ],
)
def test_layer_too_small_for_an_integer_kernel_stays_float(
    model: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    request: pytest.FixtureRequest,
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(graph(model, *inputs), AssignSmallLayers(), request.node.callspec.id)


def test_rows_of_a_batch_may_be_one() -> None:
    gm = graph(nn.Linear(32, 32), torch.zeros(1, 32))
    report = Report()
    AssignSmallLayers()(gm, report)
    assert report.sites == []


def test_target_without_limits_keeps_every_layer() -> None:
    assert all(rule.limit is None for rule in get_target("onnxruntime").rules)
    gm = capture(Convolutions().eval())
    parse("assign-specs{target=onnxruntime}").run(gm, Report())
    report = Report()
    AssignSmallLayers(target="onnxruntime")(gm, report)
    assert report.sites == []
