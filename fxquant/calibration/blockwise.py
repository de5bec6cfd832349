"""run_blockwise: run a captured model block by block, all batches through one block before the next.

Only one block's parameters have to be in memory, or on the device, and of one batch the values that the block
reads and gives; the others wait where ``Offload`` says.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import fx, nn

from fxquant.calibration.offload import Boundary, Offload
from fxquant.graph.blocks import Block, blocks_of
from fxquant.storage import release

log = logging.getLogger(__name__)


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
    after: Callable[[Block, int], bool] = lambda block, index: False,
) -> int:
    """Run calls of a captured model block by block; return their number.

    A node runs on the values that it gets when the model runs as a whole, bit for bit, and each one sees the
    batches in their order. What the model returns is not computed into one value.

    Args:
        gm: The captured model.
        runner: What runs its nodes.
        calls: The values of the inputs of each call, in order; read once.
        offload: Where things are kept meanwhile.
        after: Called with each block and batch after it ran; whether it is to run again, on the same values.

    Raises:
        OffloadError: If values cannot be kept.
    """
    blocks = blocks_of(gm, offload.block_bytes)
    inputs = gm.graph.find_nodes(op="placeholder")
    count = 0
    with Boundary(offload) as boundary:
        for number, block in enumerate(blocks):
            steps = list(steps_of(block))
            log.info("block %d of %d", number + 1, len(blocks))
            with loaded(block, offload.device):
                for index, values in enumerate([()] * count if number else calls):
                    count = max(count, index + 1)
                    pairs = dict(zip(() if number else inputs, values, strict=True))
                    is_done = False
                    while not is_done:
                        given = {node: boundary.moved(value) for node, value in pairs.items()}
                        given |= {node: boundary.get(index, node) for node in block.reads}
                        kept = run_block(runner, block, steps, given)
                        is_done = not after(block, index)
                    for node, value in kept.items():
                        boundary.put(index, node, value)
                    for node in block.ends:
                        boundary.drop(index, node)
                    del given, kept, pairs, values
    return count


def steps_of(block: Block) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
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


def run_block(
    runner: NodeRunner,
    block: Block,
    steps: list[tuple[fx.Node, list[fx.Node]]],
    given: dict[fx.Node, Any],
) -> dict[fx.Node, Any]:
    """Run a block on one batch; return what later blocks read.

    Args:
        runner: What runs the nodes.
        block: The block.
        steps: Its nodes to run, as ``steps_of`` has them.
        given: The values of the nodes that it reads; emptied as they are read for the last time.
    """
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
def loaded(block: Block, device: torch.device | str | None) -> Iterator[None]:
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
