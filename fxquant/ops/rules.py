"""by_op: a sparse table over the op table, by the names of its rows."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from fxquant.errors import OptionError
from fxquant.ops.table import op_named


class OpsRule(Protocol):
    """What is said of some rows of the op table."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the rows."""


_R = TypeVar("_R", bound=OpsRule)


def by_op(rules: Iterable[_R], owner: str) -> dict[str, _R]:
    """Return rules by the names of their ops.

    Args:
        rules: The rules.
        owner: Whose they are, for the error: "Target 'mine'".

    Raises:
        OptionError: If there is no such op, or two rules for one.
    """
    found: dict[str, _R] = {}
    for rule in rules:
        for name in rule.ops:
            if op_named(name).name in found:
                raise OptionError(f"{owner} has two rules for op '{name}'.")
            found[name] = rule
    return found
