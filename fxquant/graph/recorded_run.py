"""RecordedRun: one run of a model, as graphs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from fxquant.graph.capture_notes import Resistance
from fxquant.graph.recorder import Recorder


@dataclass(kw_only=True)
class RecordedRun:
    """One run of a model, as graphs.

    Attributes:
        root: The model; a copy of the user's.
        opaque: Dotted paths of the layers that stay whole.
        is_compiled: Whether torch says during the run that it compiles, so that models leave out branches.
        graphs: The recorders of the model and of what opaque layers call, by dotted path, in order of calls.
        unlike: Children of opaque layers that were called in several ways, which one graph cannot serve.
        calls: How often opaque layers called each layer that has a graph, by dotted path.
        uses_autocast: Whether the forward asked for automatic casts, which a graph leaves out.
        whole_macs: Multiply-accumulates that opaque layers take themselves, by dotted path.
        failed: The layer whose forward raised while it was recorded; None for none.
    """

    root: nn.Module
    opaque: frozenset[str]
    is_compiled: bool = True
    graphs: dict[str, Recorder] = field(default_factory=dict)
    unlike: list[Resistance] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    uses_autocast: bool = False
    whole_macs: Mapping[str, int] = field(default_factory=dict)
    failed: str | None = None

    @property
    def foreign(self) -> list[tuple[torch.Tensor, str]]:
        """Tensors that nothing recorded gave, with the layers that read them."""
        return [pair for recorder in self.graphs.values() for pair in recorder.foreign]

    @property
    def is_random(self) -> bool:
        """Whether some forward draws random numbers."""
        return any(recorder.is_random for recorder in self.graphs.values())

    @property
    def resistances(self) -> list[Resistance]:
        """What the layers' forwards did that a graph cannot say."""
        return [*self.unlike, *(r for recorder in self.graphs.values() for r in recorder.resistances)]
