from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxquant.graph import Report, capture, graph_text
from fxquant.passes import Pipeline, prepare_pipeline
from fxquant.targets import TARGETS


class EveryKindOfNode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
        self.register_buffer("shift", torch.zeros(2, 1, 1))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        joined = torch.cat([self.layers(x), y], dim=1)
        size = joined.shape[0]
        return joined.view(size, -1)[:, 1:4], {"sum": x + self.shift}


def test_every_kind_of_node_is_one_line(golden: Callable[[str, str], None]) -> None:
    golden(graph_text(capture(EveryKindOfNode())), "graph/text/every_kind_of_node")


@pytest.mark.parametrize("target", TARGETS)
def test_grids_of_quantizers_are_shown(target: str, golden: Callable[[str, str], None]) -> None:
    gm = capture(EveryKindOfNode())
    steps = prepare_pipeline(TARGETS[target]).passes
    Pipeline(tuple(step for step in steps if step.name != "assign-small-layers")).run(gm, Report())
    golden(graph_text(gm), f"graph/text/prepared_for_{target}")


def test_text_ends_with_one_line_break() -> None:
    text = graph_text(capture(nn.Sequential(nn.ReLU())))
    assert text == "input_1 = input\n_0 = ReLU[0](input_1)\nreturn _0\n"
