"""Labels: which part of a batch is a label, which the model does not take. The rule is here only.

By name: a key or field "label", "labels", "target" or "targets" is a label, unless the model needs an input
of that name. By position: what follows the last input is a label. A last value that could also be an
optional input is an error, unless it is that input's default, or the input is called like a label: a label
that silently becomes an attention mask spoils every range. ``Batches(data, has_label=...)`` says which it is.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from fxquant.calibration.leaves import is_named_tuple
from fxquant.errors import BatchError

LABELS = ("label", "labels", "target", "targets")


@dataclass(frozen=True, kw_only=True)
class Positions:
    """The inputs of a model that values are given to by position.

    Attributes:
        names: Their names, in order.
        needed: How many of them, from the first, a batch has to give.
        defaults: The values of those that it need not give.
        is_open: Whether any number of values may follow, as in ``forward(*args)``.
    """

    names: tuple[str, ...]
    needed: int
    defaults: Mapping[str, object]
    is_open: bool = False

    def without_label(self, values: tuple[Any, ...], has_label: bool | None) -> tuple[Any, ...]:
        """Return the values of a batch without its label.

        Args:
            values: The batch.
            has_label: Whether the last one is a label; None for the rule.

        Raises:
            BatchError: If the rule does not tell.
        """
        if has_label is not None:
            return values[:-1] if has_label else values
        count, most = len(values), len(self.names)
        if count <= max(self.needed, 1) or (count > most + 1 and not self.is_open):
            return values
        if count > most and not self.is_open:
            return values[:-1]
        name = self.names[count - 1] if count <= most else "*"
        if name in LABELS:
            return values[:-1]
        if name in self.defaults and _is_same(values[-1], self.defaults[name]):
            return values
        raise BatchError(
            f"The last of {count} values in a batch is a label or the optional input '{name}': it is not "
            f"known which. The inputs are: {', '.join(self.names) or '*'}.",
            remedy="Pass fxquant.Batches(data, has_label=True), or has_label=False, or yield dicts.",
        )


def named_values(batch: object, names: Set[str]) -> dict[str, Any] | None:
    """Return the values of a batch by name: of a dict, and of a named tuple or dataclass of inputs.

    Args:
        batch: The batch.
        names: The model's inputs.

    Returns:
        None where it has no names, or names that are not those of the inputs.
    """
    if isinstance(batch, Mapping):
        return dict(batch)
    if is_named_tuple(batch):
        found = {name: getattr(batch, name) for name in batch._fields}  # type: ignore[attr-defined]  # it has
    elif is_dataclass(batch) and not isinstance(batch, type):
        found = {field.name: getattr(batch, field.name) for field in fields(batch)}
        found = {name: value for name, value in found.items() if value is not None or name in names}
    else:
        return None
    return found if all(name in names or name in LABELS for name in found) else None


def without_labels(values: Mapping[str, Any], needed: Set[str]) -> dict[str, Any]:
    """Return named values without those called like labels, unless the model needs an input of the name."""
    return {name: value for name, value in values.items() if name in needed or name not in LABELS}


def _is_same(value: object, default: object) -> bool:
    """Whether a value is a default: a number, flag, text or None, never a tensor."""
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return is_plain and type(value) is type(default) and value == default
