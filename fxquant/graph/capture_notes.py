"""CaptureNotes: how a graph came to be, kept with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from fxquant.graph.guards import Guard

_KEY = "fxquant_capture"


@dataclass(frozen=True, kw_only=True)
class Resistance:
    """Why a layer stays whole.

    Attributes:
        layer: Dotted path of the user's layer; empty for the model's own forward.
        reason: What its forward does.
        line: The line of the user's code; empty where it is not known.
    """

    layer: str
    reason: str
    line: str = ""

    def __str__(self) -> str:
        who = f"'{self.layer}'" if self.layer else "the model's own forward"
        return f"{who} {self.reason}{f' at {self.line}' if self.line else ''}"


@dataclass(frozen=True, kw_only=True)
class CaptureNotes:
    """How a graph came to be.

    Attributes:
        way: "traced" symbolically, or "recorded" on example inputs.
        path: Dotted path of the layer in the user's model; empty for the model itself.
        calls: How often the layer was called.
        guards: What the capture fixed.
        opaque: Layers that stay whole and float, with the reason; what they call has graphs of its own.
        whole_macs: Multiply-accumulates that those layers take themselves, by dotted path.
        uses_autocast: Whether the forward casts automatically, which the graph leaves out.
        failure: How the graph differs from the model where nothing more could be done; empty for equal.
    """

    way: str
    path: str = ""
    calls: int = 1
    guards: tuple[Guard, ...] = ()
    opaque: tuple[Resistance, ...] = ()
    whole_macs: Mapping[str, int] = field(default_factory=dict)
    uses_autocast: bool = False
    failure: str = ""


def set_capture_notes(gm: fx.GraphModule, notes: CaptureNotes) -> None:
    """Attach notes; they outlive copies and pickles."""
    gm.meta[_KEY] = notes  # copies keep meta
    object.__setattr__(gm, _KEY, notes)  # pickles keep attributes


def capture_notes(gm: Any) -> CaptureNotes | None:
    """Return the notes of a captured graph; None for any other object."""
    notes = gm.meta.get(_KEY, vars(gm).get(_KEY)) if isinstance(gm, fx.GraphModule) else None
    return notes if isinstance(notes, CaptureNotes) else None


def inner_graphs(module: nn.Module) -> dict[str, fx.GraphModule]:
    """Return the graphs that an opaque layer calls, by path; graphs inside those are left to them."""
    found: dict[str, fx.GraphModule] = {}
    for path, inner in module.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in found)
        if capture_notes(inner) is not None and not is_inside:
            found[path] = inner
    return found


def graphs_of(gm: fx.GraphModule) -> Iterator[fx.GraphModule]:
    """Yield a captured graph, and the graphs that its opaque layers call."""
    for module in gm.modules():
        if module is gm or capture_notes(module) is not None:
            assert isinstance(module, fx.GraphModule)
            yield module
