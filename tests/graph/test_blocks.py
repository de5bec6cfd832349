import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph.aliases import writes_in_place
from fxquant.graph.blocks import blocks_of

LAYER = 16 * 16 * 4  # bytes


class Residual(nn.Module):
    """Layers of 16 x 16 with a skip over each pair, and one over all of them."""

    def __init__(self, pairs=3):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(2 * pairs))

    def forward(self, x, scale):
        first = x
        for one, two in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = x + two(F.relu(one(x)))
        return (x + first) * scale


class Written(nn.Module):
    """Writes into a tensor between two layers, of which a view was made before."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(16, 16, bias=False) for _ in range(3))

    def forward(self, x):
        made = self.one(x)
        view = made[:, :8]
        other = self.two(x)
        made.mul_(2.0)
        return self.three(made) + other + view.repeat(1, 2)


class Shared(nn.Module):
    """Reads one parameter in its first and in its last call, between two layers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16))
        self.one, self.two = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)

    def forward(self, x):
        return self.two(self.one(x @ self.weight)) @ self.weight


def text(blocks):
    def names(nodes):
        return " ".join(node.name for node in nodes)

    return "\n".join(
        f"{names(b.nodes)} | reads {names(b.reads)} | gives {names(b.gives)} | ends {names(b.ends)}"
        for b in blocks
    )


def test_a_model_that_fits_is_one_block():
    gm = fx.symbolic_trace(Residual())
    (block,) = blocks_of(gm, 6 * LAYER)
    assert list(block.nodes) == list(gm.graph.nodes)
    assert (block.reads, block.gives, block.ends) == ((), (), ())


def test_cuts_are_where_fewest_values_are_alive(golden):
    golden(text(blocks_of(fx.symbolic_trace(Residual()), 3 * LAYER)), "graph/blocks/narrow")


def test_a_layer_that_is_too_large_is_a_block_with_what_follows_it(golden):
    golden(text(blocks_of(fx.symbolic_trace(Residual()), LAYER // 2)), "graph/blocks/small")


def test_there_is_no_cut_before_a_write_in_place(golden):
    golden(text(blocks_of(fx.symbolic_trace(Written()), LAYER)), "graph/blocks/written")


def test_a_parameter_belongs_to_every_block_that_reads_it():
    model = Shared()
    blocks = blocks_of(fx.symbolic_trace(model), LAYER)
    assert [[entry.name for entry in block.held] for block in blocks] == [["weight"]] * 4
    assert [block.held[0].owner is model for block in blocks[1:3]] == [False, False]
    assert [id(block.held[0].get()) for block in blocks[::3]] == [id(model.weight)] * 2
    assert [len(block.constants) for block in blocks] == [1, 0, 0, 1]
    assert all(node.op != "get_attr" for block in blocks for node in (*block.nodes, *block.gives))


def test_operators_named_like_keywords_write_nothing():
    graph = fx.Graph()
    one, two = graph.placeholder("one"), graph.placeholder("two")
    both = graph.call_function(operator.and_, (one, two))
    either = graph.call_function(operator.or_, (both, two))
    graph.output(either)
    gm = fx.GraphModule(nn.Module(), graph)
    assert [writes_in_place(gm, node) for node in (both, either)] == [False, False]
    graph.inserting_before(either).__enter__()
    assert writes_in_place(gm, graph.call_method("logical_and_", (one, two)))
