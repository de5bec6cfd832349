"""run_blockwise: run a captured model block by block, all batches through one block before the next.

Only one block's parameters have to be in memory, or on the device, and of one batch the values that the block
reads and gives; the others wait where ``Offload`` says.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import fx, nn

from fxquant.calibration.offload import Boundary, Offload
from fxquant.graph.blocks import Block, blocks_of
from fxquant.storage import release


class NodeRunner(Protocol):
    """What runs single nodes of a graph, such as an fx.Interpreter.

    Attributes:
        env: The values that nodes gave, for those that read them.
    """

    env: dict[fx.Node, Any]

    def run_node(self, n: fx.Node) -> Any:
        """Run a node on values of ``env``; return what it gives."""


def run_blockwise(
    gm: fx.GraphModule,
    runner: NodeRunner,
    calls: Iterable[Sequence[Any]],
    offload: Offload,
    on_block: Callable[[Block], None] = lambda block: None,
) -> Generator[tuple[Block, int], None, None]:
    """Run calls of a captured model block by block; yield each block and batch after it ran.

    A node runs on the values that it gets when the model runs as a whole, bit for bit, and each one sees the
    batches in their order. What the model returns is not computed into one value. Where the run stops early,
    close the generator: it removes the files it wrote.

    Args:
        gm: The captured model.
        runner: What runs its nodes.
        calls: The values of the inputs of each call, in order; read once.
        offload: Where things are kept meanwhile.
        on_block: Called with each block while its parameters are there, before the first batch.
    """
    blocks = blocks_of(gm, offload.block_bytes)
    inputs = gm.graph.find_nodes(op="placeholder")
    count = 0
    with Boundary(offload) as boundary:
        for block in blocks:
            steps = list(_steps(block))
            is_first = block is blocks[0]
            with _loaded(block, offload.device):
                on_block(block)
                for index, values in enumerate(calls if is_first else [()] * count):
                    given = {node: boundary.get(index, node) for node in block.reads}
                    for node, value in zip(inputs if is_first else (), values, strict=True):
                        given[node] = boundary.moved(value)
                    kept = _run(runner, block, steps, given)
                    for node, value in kept.items():
                        boundary.put(index, node, value)
                    for node in block.ends:
                        boundary.drop(index, node)
                    del given, kept, values
                    yield block, index
                    count = index + 1 if is_first else count


def _steps(block: Block) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """Yield the nodes to run, each with those whose values nothing in the block reads after it."""
    waiting = {*block.nodes, *block.reads, *block.constants} - {*block.gives}
    unread: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(block.nodes):
        done = [source for source in (node, *node.all_input_nodes) if source in waiting]
        waiting.difference_update(done)
        unread[node] = list(dict.fromkeys(done))
    for node in block.nodes:
        if node.op not in ("placeholder", "output"):
            yield node, unread[node]


def _run(
    runner: NodeRunner,
    block: Block,
    steps: list[tuple[fx.Node, list[fx.Node]]],
    given: dict[fx.Node, Any],
) -> dict[fx.Node, Any]:
    """Run a block on one batch; return what later blocks read."""
    runner.env = given
    with torch.no_grad():
        for constant in block.constants:
            given[constant] = runner.run_node(constant)
        for node, unread in steps:
            given[node] = runner.run_node(node)
            for done in unread:
                given.pop(done, None)
    runner.env = {}
    return {node: given[node] for node in block.gives}


@contextlib.contextmanager
def _loaded(block: Block, device: torch.device | str | None) -> Iterator[None]:
    """Have a block's parameters on the device inside the context; give back their memory after it."""
    before = [(entry, entry.get()) for entry in block.held]
    moved: dict[int, torch.Tensor] = {}
    try:
        for entry, tensor in before:
            if tensor is not None and device is not None and tensor.device != torch.device(device):
                entry.set(moved.setdefault(id(tensor), _on(tensor, device)))
        yield
    finally:
        for entry, tensor in before:
            entry.set(tensor)
        release(tensor for _, tensor in before if tensor is not None)


def _on(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    moved = tensor.detach().to(device)
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
