from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report, capture
from fxquant.passes import Canonicalize, parse

X = torch.linspace(-2.0, 2.0, 24).reshape(2, 3, 4)

Forward = Callable[[torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """A forward as a function; the input is copied first, so that a write does not reach the caller's."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.compute = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x * 1.0)


class ReluReadLater(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2.0
        z = self.relu(y)
        return z + y  # y was overwritten


class SharedRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, z = x * 2.0, x - 1.0
        return self.relu(y) + self.relu(z) + y + z


class WritesIntoState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x.sum())
        return x + self.total


def add_method(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.add_(x)
    return y * 2.0


def detached_read_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    z = y.detach()
    y += 1.0
    return y + z


def diagonal_read_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    z = y.diagonal()
    y.mul_(3.0)
    return y.sum() + z


def out_argument(x: torch.Tensor) -> torch.Tensor:
    y = x * 2.0
    torch.add(x, 1.0, out=y)
    return y * 3.0


def relu_method(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    return y.relu_() + y


def relu_function(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    return F.relu(y, inplace=True) + y


def two_writes(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.add_(1.0)
    y.mul_(3.0)
    return y


def view_read_before(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    total = y.view(-1).sum()
    y.add_(1.0)
    return y * total


def view_read_after(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    rows = y.view(2, -1)
    y.add_(1.0)
    return rows * 2.0


def base_read_after(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.view(-1).add_(1.0)
    return y * 2.0


def slice_written(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y[:, 0].relu_()
    return y


def view_of_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    row = y.view(2, -1)[0]
    y.add_(1.0)
    return row * 2.0


def base_of_a_base(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.view(2, -1)[0].add_(1.0)
    return y * 2.0


def sibling_view(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    written, read = y.view(-1), y.view(-1)
    written.add_(1.0)
    return read * 2.0


def half_written(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.chunk(2, dim=-1)[0].add_(1.0)
    return y * 2.0


def relu_underscore(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    torch.relu_(y)
    return y * 2.0


def method_without_a_row(x: torch.Tensor) -> torch.Tensor:
    y = x + 1.0
    y.masked_fill_(x < 0.0, 0.0)
    return y * 2.0


def fills_the_diagonal(x: torch.Tensor) -> torch.Tensor:
    y = x[0, :, :3] + 1.0
    y.fill_diagonal_(3.0)
    return y * 2.0


def output_after(model: nn.Module, pipeline: str) -> torch.Tensor:
    gm = capture(model)
    parse(pipeline).run(gm, Report())
    return gm(X.clone())


APPLIED = [
    pytest.param(Net(add_method), id="add_method"),
    pytest.param(Net(relu_method), id="relu_method"),
    pytest.param(Net(relu_function), id="relu_function"),
    pytest.param(Net(relu_underscore), id="relu_function_with_an_underscore"),
    pytest.param(Net(method_without_a_row), id="method_without_a_row"),
    pytest.param(ReluReadLater(), id="relu_module_read_later"),
    pytest.param(SharedRelu(), id="relu_module_called_twice"),
    pytest.param(Net(two_writes), id="two_writes"),
    pytest.param(Net(view_read_before), id="view_read_before"),
]
DECLINED = [
    pytest.param(Net(view_read_after), id="view_read_after"),
    pytest.param(Net(base_read_after), id="base_read_after"),
    pytest.param(Net(slice_written), id="slice_written"),
    pytest.param(Net(view_of_a_view), id="view_of_a_view"),
    pytest.param(Net(base_of_a_base), id="base_of_a_base"),
    pytest.param(Net(sibling_view), id="sibling_view"),
    pytest.param(Net(half_written), id="one_of_several_views"),
    pytest.param(Net(fills_the_diagonal), id="no_form_out_of_place"),
    pytest.param(Net(detached_read_after), id="op_without_a_row_may_be_a_view"),
    pytest.param(Net(diagonal_read_after), id="diagonal_is_a_view"),
    pytest.param(Net(out_argument), id="out_argument"),
]


@pytest.mark.parametrize("model", APPLIED)
def test_write_in_place_becomes_a_value_that_later_readers_read(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model), Canonicalize(), request.node.callspec.id)


@pytest.mark.parametrize("model", DECLINED)
def test_write_that_cannot_be_replaced_is_declined(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model), Canonicalize(), request.node.callspec.id)


@pytest.mark.parametrize("model", [*APPLIED, *DECLINED])
def test_output_stays_the_same(model: nn.Module) -> None:
    assert torch.equal(output_after(model, "canonicalize"), model(X.clone()))


def test_write_into_a_buffer_is_declined(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    gm = captured(WritesIntoState())
    check_rewrite(gm, Canonicalize(), "write_into_a_buffer")
    gm(X)
    assert torch.equal(gm.total, X.sum())


def test_model_given_keeps_its_in_place_layers() -> None:
    model = ReluReadLater()
    output_after(model, "canonicalize")
    assert model.relu.inplace
