"""Statistics: what calibration saw of a model's tensors, to find ranges from without the data."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fxquant.calibration.tensor_statistics import Kind, TensorStatistics
from fxquant.errors import StatisticsError, first_line
from fxquant.files import write_atomically

_FORMAT = "fxquant statistics 1"


class Statistics:
    """What was seen of each quantized tensor, by the name that files give it.

    The same statistics serve every method whose kind was collected, and every target whose tensors they
    hold. They are the same whatever the order of the batches, but for the moving average.

    Args:
        kinds: The kinds of statistics collected: the range always.

    Attributes:
        num_batches: Number of batches seen.
        tensors: What was seen, by name of the tensor.
        like: Names of tensors that hold values of another one, and that one's name.
    """

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self.kinds = frozenset({Kind.RANGE, *kinds})
        self.num_batches = 0
        self.tensors: dict[str, TensorStatistics] = {}
        self.like: dict[str, str] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.tensors or name in self.like

    def __iter__(self) -> Iterator[str]:
        yield from self.tensors
        yield from self.like

    def __len__(self) -> int:
        return len(self.tensors) + len(self.like)

    def __getitem__(self, name: str) -> TensorStatistics:
        seen = {name}
        while name not in self.tensors:
            name = self.like[name]
            if name in seen:
                raise KeyError(name)
            seen.add(name)
        return self.tensors[name]

    def merge(self, other: "Statistics") -> None:
        """Add what was seen elsewhere: in another process, or in an earlier run on other batches.

        As if these batches had been seen here, but for the moving average, which is weighted by batches.

        Raises:
            StatisticsError: If the other is of other kinds, or of a tensor of another shape; names it.
        """
        if self.kinds != other.kinds:
            raise StatisticsError(
                f"Statistics of the kinds {_listed(other.kinds)} cannot be added to {_listed(self.kinds)}.",
                remedy="Collect both for the same methods.",
            )
        for name, statistics in other.tensors.items():
            if name in self.tensors and not self.tensors[name].is_like(statistics):
                raise StatisticsError(
                    f"The statistics of '{name}' are of another shape, and cannot be merged.",
                    remedy="Collect both with the same model.",
                )
        for name, statistics in other.tensors.items():
            if name not in self.tensors:
                self.tensors[name] = TensorStatistics(
                    self.kinds, statistics.shape, statistics.block_size, statistics.channels.axis
                )
            self.tensors[name].merge(statistics)
        self.like |= {name: base for name, base in other.like.items() if name not in self.tensors}
        self.num_batches += other.num_batches

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain tensors, numbers, texts and lists."""
        return {
            "format": _FORMAT,
            "kinds": sorted(kind.value for kind in self.kinds),
            "num_batches": self.num_batches,
            "tensors": {name: statistics.to_dict() for name, statistics in self.tensors.items()},
            "like": dict(self.like),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Statistics":
        """Return what ``to_dict`` was called on.

        Raises:
            StatisticsError: If the values are not what it returned.
        """
        try:
            if values["format"] != _FORMAT:
                raise StatisticsError(f"They are of the format '{values['format']}', not '{_FORMAT}'.")
            found = cls(Kind(kind) for kind in values["kinds"])
            found.num_batches = int(values["num_batches"])
            found.like = {str(name): str(base) for name, base in values["like"].items()}
            found.tensors = {
                str(name): TensorStatistics.from_dict(entry) for name, entry in values["tensors"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise StatisticsError(f"These are no statistics of fxquant: {first_line(error)}.") from error
        return found

    def __repr__(self) -> str:
        return f"Statistics({_listed(self.kinds)} of {len(self)} tensors in {self.num_batches} batches)"


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Write statistics to a file, whole or not at all.

    Raises:
        ExportError: If it cannot be written.
    """
    values = statistics.to_dict()
    write_atomically(Path(path), lambda temporary: torch.save(values, temporary))


def load_statistics(path: str | Path) -> Statistics:
    """Return the statistics in a file, on the CPU. No code of the file is run.

    Raises:
        StatisticsError: If it cannot be read, or holds something else; names the file.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead to
        raise StatisticsError(
            f"'{path}' cannot be read as statistics: {first_line(error)}.",
            remedy="Give a file that fxquant.save_statistics wrote.",
        ) from error
    try:
        return Statistics.from_dict(values)
    except StatisticsError as error:
        raise StatisticsError(
            f"'{path}' holds something else. {error.what}",
            remedy="Give a file that fxquant.save_statistics wrote.",
        ) from error


def _listed(kinds: Iterable[Kind]) -> str:
    return ", ".join(sorted(kind.value for kind in kinds))
