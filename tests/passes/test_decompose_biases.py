"""DecomposeBiases: which layers add their bias by an op of its own."""

from collections.abc import Callable

import torch
from torch import fx, nn

import fxquant
from fxquant.graph import Report
from fxquant.passes import DecomposeBiases
from fxquant.quantization.affine import QuantizeDequantize

LPBQ = "qualcomm:w4a8-lpbq"


class Layers(nn.Module):
    """A layer of whole blocks that is called twice, one that blocks do not divide, one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.narrow = nn.Linear(64, 64), nn.Linear(48, 64)
        self.plain = nn.Linear(64, 48, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(self.plain(self.shared(torch.relu(self.shared(x)))))


def test_bias_beside_blocks_is_added_by_an_op_of_its_own(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    model, x = Layers().eval(), torch.randn(3, 64)
    gm = captured(model)
    check_rewrite(gm, DecomposeBiases(target=LPBQ), "blocks")
    torch.testing.assert_close(gm(x), model(x))


def test_bias_beside_a_scale_per_channel_stays_with_its_layer(
    captured: Callable[..., fx.GraphModule],
) -> None:
    gm = captured(Layers())
    assert not DecomposeBiases(target="qualcomm:w4a8")(gm, Report())


def test_running_it_twice_changes_nothing(captured: Callable[..., fx.GraphModule]) -> None:
    gm = captured(Layers())
    assert DecomposeBiases(target=LPBQ)(gm, Report())
    assert not DecomposeBiases(target=LPBQ)(gm, Report())


def test_product_and_sum_each_have_a_quantizer() -> None:
    prepared = fxquant.prepare(nn.Sequential(nn.Linear(64, 8)), target=LPBQ)
    calls = [prepared.get_submodule(str(node.target)) for node in prepared.graph.find_nodes(op="call_module")]
    assert sum(isinstance(module, QuantizeDequantize) for module in calls) == 4  # input, product, bias, sum
    assert [name for name, _ in prepared.named_parameters() if name.endswith("bias")] == ["0_bias"]
