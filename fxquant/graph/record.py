"""ModelRecord: what a prepared or quantized model remembers about how it was made."""

import copy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch
from torch import fx

from fxquant.errors import ModelTypeError
from fxquant.graph.kept_annotations import Annotations, restore_annotations, save_annotations
from fxquant.graph.report import Report
from fxquant.graph.structure import tensors_in

_KEY = "fxquant"  # in gm.meta, which copies keep
_ATTRIBUTE = "_fxquant_record"  # on gm, which pickles keep


class Stage(Enum):
    """How far a model has come."""

    PREPARED = "prepared"
    QUANTIZED = "quantized"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One call of the model: positional and keyword arguments."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors among the arguments, inside containers too."""
        return tensors_in((self.args, self.kwargs))

    def copied(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return copies of the arguments, which a forward may change."""
        return copy.deepcopy((self.args, self.kwargs))


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """What a model remembers; it travels with it through copies and pickles.

    Attributes:
        stage: How far the model has come.
        target: Name of the target it was prepared for.
        pipeline: The passes that made it, as text.
        report: What they did.
        example: A call that export can trace; None until one is known.
        annotations: Notes on the nodes.
    """

    stage: Stage
    target: str
    pipeline: str
    report: Report
    example: Example | None = None
    annotations: Annotations = ()


def set_record(gm: fx.GraphModule, record: ModelRecord) -> None:
    """Attach a record, with the notes the nodes hold now."""
    gm.meta[_KEY] = replace(record, annotations=save_annotations(gm))
    object.__setattr__(gm, _ATTRIBUTE, gm.meta[_KEY])


def has_record(model: object) -> bool:
    """Whether a model was prepared or quantized."""
    return isinstance(model, fx.GraphModule) and isinstance(_record(model), ModelRecord)


def get_record(gm: object, *stages: Stage) -> ModelRecord:
    """Return the record of a model that must be at one of the stages, its nodes' notes restored.

    Raises:
        ModelTypeError: If it is something else.
    """
    record = _record(gm) if isinstance(gm, fx.GraphModule) else None
    if (
        not isinstance(gm, fx.GraphModule)
        or not isinstance(record, ModelRecord)
        or record.stage not in stages
    ):
        wanted = " or ".join(stage.value for stage in stages)
        verbs = " or ".join(f"fxquant.{_VERBS[stage]}" for stage in stages)
        found = f"a {record.stage.value} model" if isinstance(record, ModelRecord) else type(gm).__name__
        raise ModelTypeError(
            f"This takes a {wanted} model, not {found}.", remedy=f"Pass what {verbs} returned."
        )
    restore_annotations(gm, record.annotations)
    return record


def _record(gm: fx.GraphModule) -> object:
    return gm.meta.get(_KEY, getattr(gm, _ATTRIBUTE, None))


_VERBS = {Stage.PREPARED: "prepare(model)", Stage.QUANTIZED: "convert(prepared)"}
