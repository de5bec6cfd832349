"""PrefixRunner: run a model again from where a change first shows, on values kept from a run before."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import fx, nn

from fxquant.calibration.offload import Boundary
from fxquant.graph.blocks import Block, blocks_of
from fxquant.quantization import QuantizerBase

_BLOCKS = 32  # places to start from: a start at the nearest one before costs half a block too much
_LARGEST = 512 << 20


class PrefixRunner:
    """Runs the nodes of a prepared model, and again only those from a block on.

    What one run has at the borders of blocks is kept; of the rest, values are freed after their last use.
    Random numbers are the same in each run.

    Args:
        gm: The prepared model.
        kept: Where values at borders wait.
    """

    def __init__(self, gm: fx.GraphModule, kept: Boundary) -> None:
        size = sum(p.numel() * p.element_size() for p in gm.parameters())
        self._blocks = blocks_of(gm, max(1, min(_LARGEST, size // _BLOCKS)))
        self._interpreter = fx.Interpreter(gm)
        self._interpreter.extra_traceback = False  # fx would write into the messages of errors
        self._kept = kept
        self._first: dict[nn.Module, int] = {}
        for number, block in enumerate(self._blocks):
            for node in block.nodes:
                for module in _modules_of(gm, node):
                    self._first.setdefault(module, number)
        self._unread = [_unread(block) for block in self._blocks]
        self.blocks_run = 0

    @property
    def num_blocks(self) -> int:
        """Number of blocks of a whole run."""
        return len(self._blocks)

    def start_of(self, quantizers: Collection[QuantizerBase]) -> int | None:
        """Return the first block in which one of them is called; None where the graph calls none."""
        return min((self._first[q] for q in quantizers if q in self._first), default=None)

    def run(self, inputs: Sequence[Any]) -> Any:
        """Run everything, keep the values at borders, and return what the model returns."""
        return self._run(0, self._given(inputs), keeps=True)

    def run_from_inputs(self, inputs: Sequence[Any]) -> Any:
        """Run everything, and leave what is kept as it is."""
        return self._run(0, self._given(inputs), keeps=False)

    def run_from(self, start: int) -> Any:
        """Run from a block on, on the values of the last whole run; return what the model returns."""
        number = {node: index for index, block in enumerate(self._blocks) for node in block.nodes}
        needed = {node for block in self._blocks[start:] for node in block.reads if number[node] < start}
        values = {node: self._kept.get(0, node) for node in needed}
        return self._run(start, values, keeps=False)

    def _given(self, inputs: Sequence[Any]) -> dict[fx.Node, Any]:
        """Return the values of the placeholders, which lie in the first block."""
        return dict(zip((n for n in self._blocks[0].nodes if n.op == "placeholder"), inputs, strict=True))

    def _run(self, start: int, values: dict[fx.Node, Any], *, keeps: bool) -> Any:
        interpreter, result = self._interpreter, None
        interpreter.env = values
        with torch.no_grad(), torch.random.fork_rng():
            for number in range(start, len(self._blocks)):
                block = self._blocks[number]
                _seed(number)
                for constant in block.constants:
                    values[constant] = interpreter.run_node(constant)
                for node, unread in zip(block.nodes, self._unread[number], strict=True):
                    if node.op == "output":
                        result = interpreter.run_node(node)
                    elif node.op != "placeholder":
                        values[node] = interpreter.run_node(node)
                    for done in unread:
                        values.pop(done, None)
                for node in block.gives if keeps else ():
                    self._kept.put(0, node, values[node])
                for node in block.ends:
                    values.pop(node, None)
                self.blocks_run += 1
        interpreter.env = {}
        return result


def _seed(number: int) -> None:
    """Set the state of random numbers; ``torch.manual_seed`` keeps a traceback of each call for later."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch is untyped here
        torch.cuda.manual_seed_all(number)


def _modules_of(gm: fx.GraphModule, node: fx.Node) -> list[nn.Module]:
    return list(gm.get_submodule(str(node.target)).modules()) if node.op == "call_module" else []


def _unread(block: Block) -> list[list[fx.Node]]:
    """Return, for each node of a block, the values that nothing reads after it."""
    waiting = {*block.nodes, *block.constants} - {*block.gives}
    unread: list[list[fx.Node]] = []
    for node in reversed(block.nodes):
        done = [source for source in dict.fromkeys((node, *node.all_input_nodes)) if source in waiting]
        waiting.difference_update(done)
        unread.append(done)
    return unread[::-1]
