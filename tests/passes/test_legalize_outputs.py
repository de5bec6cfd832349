from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import LegalizeOutputs

BEFORE = "canonicalize,remove-noop,fold-batch-norm,assign-specs{target=tensorrt},assign-residual-branches"


class Convs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(4, 2)


class MulReadByConv(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv1(x * y)


class MulReadByFloat(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.erf(x * y)


class MulReadByBoth(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        product = x * y
        return self.conv1(product) + torch.erf(product)


class MulReadThroughRelu(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv1(F.relu(x * y))


class MulReadByMul(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv1(x * y * x)


class MulsBeforeFloat(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.erf(x * y * x)


class PoolAndClassify(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PoolAtTheEnd(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.conv1(x), 1).flatten(1)


class ConvAndOutputReadMul(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        product = x * y
        return self.conv1(product), product


class AddAtTheEnd(Convs):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class ResidualAtTheEnd(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x) + x


class CatReadByConvs(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.conv1(x), F.max_pool2d(x, 1)], 1)
        return self.wide(joined) * self.wide(joined)


class CatReadByFloat(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(torch.cat([self.conv1(x), x], 1))


class CatReadByBoth(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.conv1(x), x], 1)
        return self.wide(joined) + torch.erf(joined)


class CatReadThroughRelu(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(F.relu(torch.cat([self.conv1(x), x], 1)))


class CatReadThroughACopy(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(F.max_pool2d(torch.cat([self.conv1(x), x], 1), 2))


class CatAtTheEnd(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.conv1(x), x], 1)


class CatOfCat(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.cat([x[:, :2], x[:, 2:]], 1)
        return self.wide(torch.cat([inner, self.conv1(x)], 1))


CASES = {
    "P07": [
        pytest.param(MulReadByConv(), id="mul_read_by_conv"),
        pytest.param(MulReadByFloat(), id="mul_read_by_float"),
        pytest.param(MulReadByBoth(), id="mul_read_by_both"),
        pytest.param(MulReadThroughRelu(), id="mul_read_through_relu"),
        pytest.param(MulReadByMul(), id="mul_read_by_mul"),
        pytest.param(MulsBeforeFloat(), id="muls_before_float"),
        pytest.param(PoolAndClassify(), id="pool_and_classify"),
    ],
    "P09": [
        pytest.param(CatReadByConvs(), id="cat_read_by_convs"),
        pytest.param(CatReadByFloat(), id="cat_read_by_float"),
        pytest.param(CatReadByBoth(), id="cat_read_by_both"),
        pytest.param(CatReadThroughRelu(), id="cat_read_through_relu"),
        pytest.param(CatReadThroughACopy(), id="cat_read_through_a_copy"),
        pytest.param(CatAtTheEnd(), id="cat_at_the_end"),
        pytest.param(CatOfCat(), id="cat_of_cat"),
    ],
    "P11": [
        pytest.param(PoolAtTheEnd(), id="pool_at_the_end"),
        pytest.param(ConvAndOutputReadMul(), id="conv_and_output_read_mul"),
        pytest.param(AddAtTheEnd(), id="add_at_the_end"),
        pytest.param(ResidualAtTheEnd(), id="residual_at_the_end"),
    ],
}


@pytest.mark.parametrize("model", CASES["P07"])
def test_op_without_weights_is_quantized_only_where_something_reads_its_integers(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), LegalizeOutputs(target="tensorrt"), request.node.callspec.id)


@pytest.mark.parametrize("model", CASES["P09"])
def test_concatenation_is_quantized_only_where_all_that_reads_it_is(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), LegalizeOutputs(target="tensorrt"), request.node.callspec.id)


@pytest.mark.parametrize("model", CASES["P11"])
def test_op_without_weights_stays_float_where_it_gives_the_models_output(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, BEFORE), LegalizeOutputs(target="tensorrt"), request.node.callspec.id)
