"""Sensitivity: what each quantizer does to a model's outputs, as data and as text."""

import json
import math
from dataclasses import asdict, dataclass
from enum import Enum

_SHOWN = 20  # rows of the text


class Alone(Enum):
    """Which quantizers are on while one unit is measured."""

    ONE = "one"  # the unit's alone
    ALL_BUT_ONE = "all-but-one"  # all others


@dataclass(frozen=True, kw_only=True)
class SensitivityRow:
    """What the outputs are with a unit's quantizers alone on, or alone off.

    Attributes:
        name: The tensor, parameter or layer.
        layer: Dotted path of the user's layer; empty for the model's own forward.
        kind: "activation", "weight" or "layer"; "model" for the whole model.
        tensors: All tensors and parameters concerned: those on one grid belong together.
        sqnr: Signal to noise of the outputs against the float ones, in dB; infinite without noise.
        mse: Mean squared difference.
        cosine: Mean cosine of the outputs' rows.
        worst_cosine: The smallest one.
        score: What ``evaluate`` gave; None without it.
    """

    name: str
    layer: str
    kind: str
    tensors: tuple[str, ...] = ()
    sqnr: float = math.inf
    mse: float = 0.0
    cosine: float = 1.0
    worst_cosine: float = 1.0
    score: float | None = None

    def __str__(self) -> str:
        score = "" if self.score is None else f"  score {self.score:.5g}"
        where = self.layer or "the model's own forward"
        return (
            f"{self.sqnr:8.2f} dB  mse {self.mse:9.3g}  cosine {self.cosine:.6f} "
            f"(worst {self.worst_cosine:.6f}){score}  {self.kind} '{self.name}' of {where}"
        )


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What ``measure_sensitivity`` found.

    Attributes:
        alone: Which quantizers were on.
        rows: A row for each unit, in graph order.
        whole: The row of the model with all quantizers on.
        num_batches: Number of batches measured.
        share_run: Share of the model that was run for a unit, on average: the rest is shared with the run
            before.
    """

    alone: Alone
    rows: tuple[SensitivityRow, ...]
    whole: SensitivityRow
    num_batches: int
    share_run: float = 1.0

    def ranked(self) -> tuple[SensitivityRow, ...]:
        """Return the rows, the most sensitive first; equal ones in graph order.

        It is the one that does the most harm alone, or without which the others do the least: by score where
        there is one, by SQNR otherwise.
        """

        def key(row: SensitivityRow) -> float:
            value = row.sqnr if row.score is None else row.score
            return value if self.alone is Alone.ONE else -value

        return tuple(sorted(self.rows, key=key))

    def to_json(self) -> str:
        """Return everything as JSON; infinite numbers are null."""
        values = asdict(self) | {"alone": self.alone.value}
        return json.dumps(finite(values), indent=1)

    def __str__(self) -> str:
        what = "quantized alone" if self.alone is Alone.ONE else "left in float alone"
        ranked = self.ranked()
        lines = [
            f"{len(self.rows)} units {what}, {self.num_batches} batch(es), most sensitive first",
            f"  all quantized: {self.whole}",
            *(f"  {row}" for row in ranked[:_SHOWN]),
        ]
        return "\n".join(lines + ([f"  and {len(ranked) - _SHOWN} more"] if len(ranked) > _SHOWN else []))


def finite(value: object) -> object:
    """Return a value for JSON, which knows no infinity and no NaN: they become null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
