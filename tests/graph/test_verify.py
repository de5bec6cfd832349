import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.errors import GraphError
from fxquant.graph import capture, verify_graph
from fxquant.graph.annotations import LAYER


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor, unused: torch.Tensor) -> torch.Tensor:
        return F.relu(self.fc(x) + self.shift)


def broken(op: str, target: str) -> fx.GraphModule:
    gm = capture(Net())
    node = gm.graph.find_nodes(op=op)[0]
    node.target = target
    node.meta[LAYER] = "the.layer"
    return gm


def test_captured_graph_is_well_formed() -> None:
    verify_graph(capture(Net()))


@pytest.mark.parametrize(
    ("op", "target"),
    [
        pytest.param("call_module", "nowhere", id="module"),
        pytest.param("call_module", "fc.nowhere", id="nested module"),
        pytest.param("get_attr", "nowhere", id="constant"),
        pytest.param("get_attr", "nowhere.shift", id="constant of a missing module"),
    ],
)
def test_name_that_leads_nowhere_is_refused(op: str, target: str) -> None:
    with pytest.raises(GraphError, match="nowhere"):
        verify_graph(broken(op, target))


def test_call_of_a_module_that_was_deleted_is_refused() -> None:
    gm = capture(Net())
    gm.delete_submodule("fc")
    with pytest.raises(GraphError, match="fc"):
        verify_graph(gm)


def test_value_that_is_read_before_it_is_computed_is_refused() -> None:
    gm = capture(Net())
    (relu,) = gm.graph.find_nodes(op="call_function", target=F.relu)
    (fc,) = gm.graph.find_nodes(op="call_module")
    fc.prepend(relu)
    with pytest.raises(GraphError, match="not well formed"):
        verify_graph(gm)


def test_graph_without_an_output_is_refused() -> None:
    gm = capture(Net())
    gm.graph.erase_node(gm.graph.output_node())
    with pytest.raises(GraphError, match="exactly one output"):
        verify_graph(gm)


def test_graph_with_two_outputs_is_refused() -> None:
    gm = capture(Net())
    gm.graph.output(gm.graph.find_nodes(op="placeholder")[0])
    with pytest.raises(GraphError, match="exactly one output"):
        verify_graph(gm)


def test_unused_input_is_allowed() -> None:
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    verify_graph(fx.GraphModule(nn.Module(), graph))
