"""blocks_of: cut a graph into consecutive blocks where few values are alive, each with few parameters.

After each node some values are still to be read: those that a cut there has to carry over. A residual network
or a transformer has places where that is one tensor, between its layers. Blocks are filled up to a number of
bytes of parameters and cut at the narrowest place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxquant.graph.aliases import Aliases, writes_in_place
from fxquant.graph.annotations import result_of
from fxquant.graph.values import attribute, is_constant, is_quantizer, returns
from fxquant.ops import Returns
from fxquant.quantization import QuantizerBase

_NEARLY = 1.25  # a later cut is preferred if it is this much wider at most: fewer blocks


@dataclass(frozen=True, kw_only=True)
class Held:
    """A parameter or buffer, by the module that holds it.

    Attributes:
        owner: The module.
        name: Its name there.
    """

    owner: nn.Module
    name: str

    def get(self) -> torch.Tensor | None:
        """Return the tensor."""
        return self._holder()[self.name]

    def set(self, tensor: torch.Tensor | None) -> None:
        """Put another tensor in its place."""
        self._holder()[self.name] = tensor

    def _holder(self) -> dict[str, torch.Tensor | None]:
        holders: tuple[Any, ...] = (self.owner._parameters, self.owner._buffers)
        return next(holder for holder in holders if self.name in holder)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive nodes of a graph.

    Attributes:
        nodes: The nodes, in order; inputs of the graph are among those of the first block.
        held: What the nodes read of the model's parameters and buffers, those of quantizers left out.
        constants: Nodes of any block, ``get_attr``, whose values they read.
        reads: Nodes of earlier blocks whose values they read.
        gives: Those of the nodes whose values later blocks read.
        ends: Those of ``reads`` that no later block reads.
    """

    nodes: tuple[fx.Node, ...]
    held: tuple[Held, ...]
    constants: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]
    gives: tuple[fx.Node, ...]
    ends: tuple[fx.Node, ...]


def blocks_of(gm: fx.GraphModule, most_bytes: int) -> list[Block]:
    """Cut a graph into consecutive blocks.

    Args:
        gm: The graph.
        most_bytes: How many bytes of parameters a block holds at most; a node that reads more is a block
            alone, and what writes in place may make one larger.
    """
    nodes = list(gm.graph.nodes)
    held = {node: tuple(_held_by(gm, node)) for node in nodes}
    widths = _widths(gm, nodes)
    blocks: list[list[fx.Node]] = []
    start = 0
    while start < len(nodes):
        end = _end(nodes, held, widths, start, most_bytes)
        blocks.append(nodes[start:end])
        start = end
    return list(_described(blocks, held))


def _end(
    nodes: list[fx.Node],
    held: dict[fx.Node, tuple[Held, ...]],
    widths: list[float],
    start: int,
    most_bytes: int,
) -> int:
    """Return where the block that begins at a node ends: at least half full, if it can be cut there."""
    seen: set[int] = set()
    size = 0
    filled: dict[int, int] = {}  # bytes before each place where it may be cut
    for index in range(start, len(nodes)):
        if index > start and widths[index] < math.inf:
            filled[index] = size
        new = {key: added for key, added in _sizes(held[nodes[index]]).items() if key not in seen}
        seen.update(new)
        size += sum(new.values())
        if new and filled and size > most_bytes:
            most = max(filled.values())
            cuts = [cut for cut, before in filled.items() if 2 * before >= most]
            narrowest = min(widths[cut] for cut in cuts)
            return max(cut for cut in cuts if widths[cut] <= narrowest * _NEARLY)
    return len(nodes)


def _sizes(held: tuple[Held, ...]) -> dict[int, int]:
    tensors = [tensor for entry in held if (tensor := entry.get()) is not None]
    return {id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}


def _held_by(gm: fx.GraphModule, node: fx.Node) -> Iterator[Held]:
    """Yield what a node reads of the model's parameters and buffers."""
    for constant in filter(is_constant, node.all_input_nodes):
        path, _, name = str(constant.target).rpartition(".")
        owner = gm.get_submodule(path) if isinstance(attribute(gm, constant), torch.Tensor) else None
        if owner is not None and (name in owner._parameters or name in owner._buffers):
            yield Held(owner=owner, name=name)
    if node.op == "call_module":
        for module in _without_quantizers(gm.get_submodule(str(node.target))):
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    yield Held(owner=module, name=name)


def _without_quantizers(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, QuantizerBase):
        return
    yield module
    for child in module.children():
        yield from _without_quantizers(child)


def _widths(gm: fx.GraphModule, nodes: list[fx.Node]) -> list[float]:
    """Return what a cut before each node would carry over, in bytes; infinite where there must be none.

    A value of unknown size counts as the largest known one. Between the making of a tensor and the last
    writing into it there is no cut: views of it have to see what is written. Nor is there one between the
    inputs.
    """
    order = {node: index for index, node in enumerate(nodes)}
    last = {node: max((order[user] for user in node.users), default=order[node]) for node in nodes}
    known = {node: _bytes(gm, node) for node in nodes}
    largest = float(max((size for size in known.values() if size is not None), default=1))
    changes = [0.0] * (len(nodes) + 1)
    for node in nodes:
        if not is_constant(node):  # which every block has by itself
            size = known[node]
            changes[order[node] + 1] += largest if size is None else size
            changes[last[node] + 1] -= largest if size is None else size
    widths, width = [], 0.0
    for change in changes:
        width += change
        widths.append(width)
    inputs = max((order[node] for node in gm.graph.find_nodes(op="placeholder")), default=-1)
    widths[: inputs + 1] = [math.inf] * (inputs + 1)
    for first, end in _uncut(gm, nodes, order):
        widths[first + 1 : end + 1] = [math.inf] * (end - first)
    return widths


def _uncut(gm: fx.GraphModule, nodes: list[fx.Node], order: dict[fx.Node, int]) -> Iterator[tuple[int, int]]:
    """Yield, for each tensor written in place, the node that makes it and the last one that writes."""
    writers = [node for node in nodes if writes_in_place(gm, node)]
    if writers:
        aliases = Aliases(gm)
        ends = {aliases.root(node): order[node] for node in writers}
        yield from ((order[root], end) for root, end in ends.items())


def _bytes(gm: fx.GraphModule, node: fx.Node) -> int | None:
    """Return the size of what a node gave during capture; None for a tensor of unknown size."""
    result = result_of(node.all_input_nodes[0] if is_quantizer(gm, node) else node)
    if result is None:
        return 0 if returns(gm, node) is Returns.VALUE else None
    return math.prod(result.shape) * result.dtype.itemsize


def _described(blocks: list[list[fx.Node]], held: dict[fx.Node, tuple[Held, ...]]) -> Iterator[Block]:
    number = {node: index for index, nodes in enumerate(blocks) for node in nodes}
    last = {node: max((number[user] for user in node.users), default=number[node]) for node in number}
    for index, nodes in enumerate(blocks):
        sources = dict.fromkeys(source for node in nodes for source in node.all_input_nodes)
        reads = tuple(s for s in sources if number[s] < index and not is_constant(s))
        yield Block(
            nodes=tuple(node for node in nodes if not is_constant(node)),
            held=tuple(dict.fromkeys(entry for node in nodes for entry in held[node])),
            constants=tuple(filter(is_constant, sources)),
            reads=reads,
            gives=tuple(node for node in nodes if last[node] > index and not is_constant(node)),
            ends=tuple(node for node in reads if last[node] == index),
        )
