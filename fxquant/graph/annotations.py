"""What fxquant notes on nodes."""

from dataclasses import dataclass

import torch
from torch import fx

LAYER = "layer"  # dotted path of the user's layer that the node comes from
TENSOR = "tensor"  # name of the quantized tensor, on calls of quantizers
STOPPED = "stopped"  # whether the forward had switched gradients off
MACS = "macs"  # multiply-accumulates of the call during capture
RESULT = "result"  # what the node gave during capture, a Result; not kept by pickles
GIVEN = "given"  # what the user's own quantizer of the tensor did, a Given; not kept by pickles
FLOAT_WHY = "float_why"  # why the user wants the call to stay float; not kept by pickles


@dataclass(frozen=True, kw_only=True)
class Result:
    """The tensor that a node gave during capture.

    Attributes:
        shape: Its sizes.
        dtype: Its type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


def result_of(node: fx.Node) -> Result | None:
    """Return what a node gave during capture; None where it is not known, or no tensor."""
    result = node.meta.get(RESULT)
    return result if isinstance(result, Result) else None


def layer_of(node: fx.Node) -> str:
    """Return the dotted path of the user's layer of a node; empty for the model's own forward."""
    return str(node.meta.get(LAYER, ""))


def below(path: str, root: str) -> str | None:
    """Return a dotted path as seen from a root; None where it does not lie below it."""
    if not root:
        return path
    if path == root:
        return ""
    return path[len(root) + 1 :] if path.startswith(f"{root}.") else None
