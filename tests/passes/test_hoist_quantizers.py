from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from fxquant.graph import Report
from fxquant.passes import HoistQuantizers
from fxquant.quantization.affine import Quantize
from fxquant.quantsim import QuantizationSimModel


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x)) + x


class Joined(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x, y], 1)


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q(x) * self.k(x)


class Ids(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids) * ids


IMAGE = torch.linspace(-1.0, 1.0, 144).reshape(1, 4, 6, 6)
MODELS = {
    "layers": (Layers, (IMAGE,)),
    "joined": (Joined, (IMAGE, 2.0 * IMAGE)),
    "readers_with_equal_ranges": (Parallel, (torch.linspace(-1.0, 1.0, 8).reshape(2, 4),)),
    "integers_have_no_quantizer": (Ids, (torch.tensor([[1], [2]]),)),
}


def simulate(name: str) -> tuple[QuantizationSimModel, tuple[torch.Tensor, ...]]:
    build, inputs = MODELS[name]
    sim = QuantizationSimModel(build(), inputs)
    sim.compute_encodings(lambda model: model(*inputs))
    return sim, inputs


@pytest.mark.parametrize("name", MODELS)
def test_quantizers_become_nodes(name: str, check_rewrite: Callable[..., Report]) -> None:
    check_rewrite(simulate(name)[0].model, HoistQuantizers(), name)


@pytest.mark.parametrize("name", MODELS)
def test_graph_computes_what_the_modules_did(name: str) -> None:
    sim, inputs = simulate(name)
    before = sim.model(*inputs)
    HoistQuantizers()(sim.model, Report())
    sim.model.recompile()
    assert torch.equal(sim.model(*inputs), before)


@pytest.mark.parametrize("name", MODELS)
def test_second_run_changes_nothing(name: str) -> None:
    gm: fx.GraphModule = simulate(name)[0].model
    HoistQuantizers()(gm, Report())
    before = str(gm.graph)
    assert not HoistQuantizers()(gm, Report())
    assert str(gm.graph) == before


def test_quantizers_of_different_ranges_at_one_tensor_both_stay(check_rewrite: Callable[..., Report]) -> None:
    sim, _ = simulate("readers_with_equal_ranges")
    sim.model.k.input_quantizers[0].set_range(-2.0, 2.0)
    check_rewrite(sim.model, HoistQuantizers(), "readers_with_ranges_of_their_own")


def test_quantize_gives_real_values_in_the_graph() -> None:
    sim, inputs = simulate("layers")
    encoding = sim.model.conv.input_quantizers[0].get_encodings()
    before = sim.model(*inputs)
    sim.model.conv.input_quantizers[0] = Quantize.from_encodings(encoding)
    HoistQuantizers()(sim.model, Report())
    sim.model.recompile()
    assert torch.equal(sim.model(*inputs), before)
