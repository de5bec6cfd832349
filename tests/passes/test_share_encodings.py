from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import ShareEncodings
from fxquant.passes.assignment import assignment_of
from fxquant.passes.share_encodings import GROUP
from fxquant.quantization.affine import QuantizeDequantize

BEFORE = {
    "tensorrt": "assign-specs{target=tensorrt},assign-residual-branches,legalize-outputs{target=tensorrt}",
    "onnxruntime": "assign-specs{target=onnxruntime},assign-outputs{target=onnxruntime}",
}
FIXED = (0.0, 1.0)


class Convs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(16, 2)


class Copies(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.max_pool2d(self.conv1(x), 2).transpose(1, 2).flatten(1))


class SplitAndUsed(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.wide(x).chunk(2, 1)
        return F.conv2d(first, self.conv1.weight[:, :2]) + second[:, :1]


class Concatenation(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(torch.cat([F.relu(self.conv1(x)), F.max_pool2d(x, 3, 1, 1)], 1))


class SigmoidInConcatenation(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(torch.cat([torch.sigmoid(self.conv1(x)), self.conv2(x)], 1))


class SigmoidAlone(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.sigmoid(self.conv1(x)))


class SigmoidReadDirectlyAndThroughAPool(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(self.conv1(x))
        return self.conv2(y) + self.conv2(F.max_pool2d(y, 1))


class ConcatenationInFloat(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erf(torch.cat([self.conv1(x), self.conv2(x)], 1))


class ConcatenationsOfOneTensor(Convs):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        first, second = torch.cat([y, x], 1), torch.cat([self.conv2(x), y], 1)
        return self.wide(first) * self.wide(second)


def groups_text(gm: fx.GraphModule) -> str:
    """Return each group of several tensors as a line: their names, the first one's first."""
    members: dict[str, list[str]] = {}
    for node in gm.graph.nodes:
        members.setdefault(node.meta[GROUP], []).append(node.name)
    return "".join(f"{', '.join(names)}\n" for names in members.values() if len(names) > 1) or "none\n"


@pytest.mark.parametrize("target", BEFORE)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Copies(), id="copies"),
        pytest.param(SplitAndUsed(), id="split"),
        pytest.param(Concatenation(), id="concatenation"),
        pytest.param(ConcatenationsOfOneTensor(), id="concatenations_of_one_tensor"),
        pytest.param(ConcatenationInFloat(), id="concatenation_in_float"),
        pytest.param(SigmoidInConcatenation(), id="sigmoid_in_concatenation"),
    ],
)
def test_tensors_that_must_lie_on_one_grid_are_grouped(
    model: nn.Module,
    target: str,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    golden: Callable[[str, str], None],
) -> None:
    gm = captured(model, f"{BEFORE[target]},share-encodings")
    name, _ = request.node.callspec.id.split("-")
    golden(groups_text(gm), f"passes/share_encodings/{name}_for_{target}")


def test_shared_range_of_a_concatenation_is_reported(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    check_rewrite(captured(Concatenation(), BEFORE["tensorrt"]), ShareEncodings(), "concatenation")


def test_sigmoid_in_a_concatenation_is_measured_instead_of_fixed(
    captured: Callable[..., fx.GraphModule],
) -> None:
    gm = captured(SigmoidInConcatenation(), BEFORE["tensorrt"])
    (cat,) = gm.graph.find_nodes(op="call_function", target=torch.cat)
    before = assignment_of(cat)
    ShareEncodings()(gm, Report())
    after = assignment_of(cat)
    assert before is not None
    assert after is not None
    assert (before.inputs["sigmoid"].fixed_range, after.inputs["sigmoid"].fixed_range) == (FIXED, None)


@pytest.mark.parametrize("target", BEFORE)
def test_sigmoid_on_a_grid_of_its_own_keeps_its_fixed_range(
    target: str, captured: Callable[..., fx.GraphModule]
) -> None:
    gm = captured(SigmoidAlone(), f"{BEFORE[target]},share-encodings,insert-quantizers")
    quantizer = gm.get_submodule("quantizers.sigmoid")
    assert isinstance(quantizer, QuantizeDequantize)
    assert not quantizer.is_overwrite_allowed()


@pytest.mark.parametrize("target", BEFORE)
def test_tensor_and_its_copy_have_one_quantizer_when_the_range_is_fixed(
    target: str, captured: Callable[..., fx.GraphModule]
) -> None:
    model = SigmoidReadDirectlyAndThroughAPool()
    gm = captured(model, f"{BEFORE[target]},share-encodings,insert-quantizers")
    convs = gm.graph.find_nodes(op="call_module", target="conv2")
    assert convs[0].args[0].target == convs[1].args[0].target


class Attention(Convs):
    """Two products: of a copy of what a layer gives, and of a softmax, as second factors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        keys = self.fc(x)
        return keys @ torch.softmax(x @ keys.transpose(-2, -1), -1)


HTP = "assign-specs{{target={0}}},assign-outputs{{target={0}}}"


def test_grid_of_a_second_factor_is_centred_with_all_that_shares_it(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    check_rewrite(captured(Attention(), HTP.format("qualcomm")), ShareEncodings(), "second_factor")


def test_grid_of_a_second_factor_that_is_converted_to_another_type_is_not_centred(
    captured: Callable[..., fx.GraphModule],
) -> None:
    gm = captured(Attention(), HTP.format("qualcomm:w8a16") + ",share-encodings,insert-quantizers")
    grids = {
        name: (quantizer.bitwidth, quantizer.symmetric)
        for name, quantizer in gm.get_submodule("quantizers").named_children()
    }
    assert grids["fc"] == (16, False)
    assert grids["fc_converted"] == (16, True)
