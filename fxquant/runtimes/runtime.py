"""Runtime: what every runtime of exported files looks like from outside."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """A node of the file that a runtime left to another, or does not run as the file says.

    Attributes:
        op: Its ONNX op.
        node: Name of its first output.
        reason: Why, in the runtime's words; empty where it gives none.
    """

    op: str
    node: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.op} '{self.node}'" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, kw_only=True)
class FloatOp:
    """An op that a runtime runs in floating point.

    Attributes:
        op: What the runtime calls it.
        nodes: The nodes of the file that it stands for, by the names of their first outputs.
        precision: Its floating point type, such as "f16".
        is_quantized: Whether one of the nodes is quantized in the file: it reads dequantized tensors only,
            and what it gives is quantized.
    """

    op: str
    nodes: tuple[str, ...]
    precision: str
    is_quantized: bool

    def __str__(self) -> str:
        return f"{self.op} ({self.precision}) of {', '.join(self.nodes) or 'no node'}"


class Runtime(Protocol):
    """One file, loaded by one runtime.

    Attributes:
        name: Name of the runtime.
        inputs: Names of the file's inputs.
        outputs: Names of what ``run`` gives.
        device: What runs the file: hardware or a simulator of it, and versions.
        fallbacks: Nodes that the runtime did not take, as of the first run.
        float_ops: Ops that it runs in floating point, as of the first run, where it tells.
    """

    name: str
    inputs: list[str]
    outputs: list[str]
    device: str
    fallbacks: tuple[Fallback, ...]
    float_ops: tuple[FloatOp, ...]

    def run(self, feeds: Arrays) -> Arrays:
        """Return every output by name.

        Args:
            feeds: An array for each input of the file.

        Raises:
            BatchError: If the inputs do not fit the file.
            RefusalError: If the runtime does not take the file for inputs of these sizes.
        """
        ...


def float_islands(runtime: Runtime) -> tuple[FloatOp, ...]:
    """Return the ops that a runtime runs in floating point though they are quantized in the file."""
    return tuple(op for op in runtime.float_ops if op.is_quantized)
