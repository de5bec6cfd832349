"""Streams: calibration batches on their way through the float and the quantized model, block by block.

An algorithm that mends one block after the other wants to know what the block is given now that those before
it are mended, and what it gave in float. Both streams go through a block before the next one is begun, so
that memory holds one block's values, and between blocks only what later ones read.
"""

import copy
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx

from fxquant.algorithms.reference import as_in_float
from fxquant.calibration import (
    Boundary,
    CalibrationInterpreter,
    NodeRunner,
    Offload,
    Signature,
    calls_of,
    loaded,
    rejected,
    run_block,
    steps_of,
)
from fxquant.errors import FxQuantError
from fxquant.graph import Example
from fxquant.graph.annotations import layer_of
from fxquant.graph.blocks import Block, blocks_of

_Wanted = TypeVar("_Wanted")

SINGLE = Offload(block_bytes=1)
"""Every layer a block of its own."""


def in_turn(
    gm: fx.GraphModule, batches: object, wanted: Mapping[fx.Node, _Wanted], *, with_float: bool = True
) -> Generator[tuple["Stage", _Wanted], None, None]:
    """Yield what stands for each wanted call, with its block, in graph order; every layer is its own block.

    Close the iterator (``contextlib.closing``), so that nothing waits on disk where a loop ends early.

    Args:
        gm: The prepared model, calibrated.
        batches: The data, as ``calibrate`` takes it.
        wanted: By call.
        with_float: Whether the float stream is wanted.

    Raises:
        BatchError: If there is no batch, or the model rejects one.
    """
    streams = Streams(gm, calls_of(batches, Signature(gm)), with_float=with_float)
    with closing(streams.stages()) as stages:
        for stage in stages:
            yield from ((stage, wanted[node]) for node in stage.block.nodes if node in wanted)


class Streams:
    """The two streams of a model's values.

    Args:
        gm: The prepared model, calibrated.
        calls: The batches, as calls of the model.
        offload: Where values wait between blocks, and how large a block is.
        with_float: Whether the float stream is wanted; without it a run costs half.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        calls: Iterable[Example],
        offload: Offload = SINGLE,
        *,
        with_float: bool = True,
    ) -> None:
        self._gm, self._offload = gm, offload
        signature = Signature(gm)
        self._calls = [list(signature.bind(example).values()) for example in calls]
        self._streams = {True: _Stream(gm, offload, is_quantized=True)}
        if with_float:
            self._streams[False] = _Stream(gm, offload, is_quantized=False)

    def stages(self) -> Generator["Stage", None, None]:
        """Yield each block when its inputs are known; those after it see what is done to it meanwhile.

        Raises:
            BatchError: If the model rejects a batch.
            OffloadError: If values cannot be kept.
        """
        blocks = blocks_of(self._gm, self._offload.block_bytes)
        inputs = self._gm.graph.find_nodes(op="placeholder")
        with self._streams[True], self._streams.get(False, self._streams[True]):
            for stream in self._streams.values():
                for index, values in enumerate(self._calls):
                    stream.take(index, dict(zip(inputs, values, strict=True)))
            for number, block in enumerate(blocks):
                with loaded(block, self._offload.device):
                    if False in self._streams:
                        self._streams[False].pass_through(block, len(self._calls))
                    yield Stage(self, block, number, len(blocks))
                    self._streams[True].pass_through(block, len(self._calls))
                for stream in self._streams.values():
                    stream.forget(block, len(self._calls))

    @property
    def num_calls(self) -> int:
        """Number of batches."""
        return len(self._calls)

    def values(self, block: Block, wanted: fx.Node, *, is_quantized: bool) -> Iterator[Any]:
        """Yield what a node of a block, or one that it reads, gives, batch by batch."""
        return self._streams[is_quantized].values(block, wanted, self.num_calls)


@dataclass(frozen=True)
class Stage:
    """A block whose inputs are known, in both streams.

    Attributes:
        streams: Where they are.
        block: The block.
        number: Its number.
        total: How many there are.
    """

    streams: Streams
    block: Block
    number: int
    total: int

    def values(self, node: fx.Node, *, is_quantized: bool) -> Iterator[torch.Tensor]:
        """Yield what a node gives, batch by batch: with the quantizers as they are now, or in float.

        Args:
            node: A node of the block, or one that it reads.
            is_quantized: Which stream; in float, a layer has the weight that it has in the user's model.
        """
        return self.streams.values(self.block, node, is_quantized=is_quantized)


class _Stream:
    """One of the streams: the values that blocks to come read, by batch."""

    def __init__(self, gm: fx.GraphModule, offload: Offload, *, is_quantized: bool) -> None:
        self._boundary = Boundary(offload)
        self._is_quantized = is_quantized
        self._in_float = CalibrationInterpreter(gm)
        self._runner: NodeRunner = _Quantized(gm) if is_quantized else self._in_float
        self._is_open = False

    def __enter__(self) -> "_Stream":
        if not self._is_open:
            self._boundary.__enter__()
        self._is_open = True
        return self

    def __exit__(self, *error: Any) -> None:
        if self._is_open:
            self._boundary.__exit__(*error)
        self._is_open = False

    def take(self, index: int, values: dict[fx.Node, Any]) -> None:
        """Take a batch in."""
        for node, value in values.items():
            self._boundary.put(index, node, value)

    def pass_through(self, block: Block, count: int) -> None:
        """Run all batches through a block, and keep what it gives."""
        steps = list(steps_of(block))
        for index in range(count):
            for node, value in self._run(block, steps, index).items():
                if node.op != "placeholder":
                    self._boundary.put(index, node, value)

    def forget(self, block: Block, count: int) -> None:
        """Drop what no later block reads."""
        unread = [node for node in block.nodes if node.op == "placeholder" and node not in block.gives]
        for index in range(count):
            for node in (*block.ends, *unread):
                self._boundary.drop(index, node)

    def values(self, block: Block, wanted: fx.Node, count: int) -> Iterator[Any]:
        """Yield what one node gives, batch by batch, running no more than it needs."""
        if wanted not in block.nodes or wanted.op == "placeholder":
            yield from (self._boundary.get(index, wanted) for index in range(count))
            return
        nodes = _needed(block, wanted)
        part = Block(
            nodes=nodes,
            held=block.held,
            constants=tuple(c for c in block.constants if any(user in nodes for user in c.users)),
            reads=tuple(read for read in block.reads if any(user in nodes for user in read.users)),
            gives=(wanted,),
            ends=(),
        )
        steps = list(steps_of(part))
        yield from (self._run(part, steps, index)[wanted] for index in range(count))

    def _run(self, block: Block, steps: Any, index: int) -> dict[fx.Node, Any]:
        given = {node: self._boundary.get(index, node) for node in block.reads}
        for node in block.nodes:
            if node.op == "placeholder":  # a model may write into what it is given
                given[node] = copy.deepcopy(self._boundary.get(index, node))
        try:
            if self._is_quantized:
                return run_block(self._runner, block, steps, given)
            with self._in_float.nested(), as_in_float(block.held):
                return run_block(self._runner, block, steps, given)
        except FxQuantError:
            raise
        except Exception as error:  # whatever the model raises on data that it does not take
            layer = next((layer_of(node) for node in reversed(block.nodes) if node in given), "")
            raise rejected(f"batch {index}", layer, error) from error


class _Quantized(fx.Interpreter):
    """Runs nodes as the quantized model does."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.extra_traceback = False  # fx would write into the messages of errors


def _needed(block: Block, wanted: fx.Node) -> tuple[fx.Node, ...]:
    """Return the nodes of a block that one of them depends on, with itself, in order."""
    inside = set(block.nodes)
    needed, waiting = {wanted}, [wanted]
    while waiting:
        new = [node for node in waiting.pop().all_input_nodes if node in inside and node not in needed]
        needed.update(new)
        waiting += new
    return tuple(node for node in block.nodes if node in needed)
