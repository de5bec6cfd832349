"""Steps as text: dataclasses with a name, whose fields are options, printed and parsed back."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, TypeVar

from fxquant.errors import OptionError, unknown_option

_STEP = re.compile(r"([a-z0-9-]+)(?:\{([^{}]*)\})?")


class Step(Protocol):
    """A dataclass whose fields, each with a scalar default, are options."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


StepT = TypeVar("StepT", bound=Step)


def parse_steps(text: str, catalogue: Iterable[type[StepT]], kind: str) -> tuple[StepT, ...]:
    """Return the steps that a text names: ``step-name,step-name{option=value other=value}``.

    Args:
        text: The text.
        catalogue: The steps there are.
        kind: What a step is called in errors, such as "pass".

    Raises:
        OptionError: If the text is not of that form, or names a step or option that does not exist.
    """
    known = {step.name: step for step in catalogue}
    steps: list[StepT] = []
    for part in text.split(","):
        match = _STEP.fullmatch(part.strip())
        if match is None:
            article = "an" if kind[0] in "aeiou" else "a"
            raise OptionError(
                f"'{part}' is not {article} {kind}.",
                remedy=f"Write {kind}-name or {kind}-name{{option=value}}.",
            )
        name, options = match.groups()
        if name not in known:
            raise unknown_option(kind, name, known)
        steps.append(_make(known[name], options or "", kind))
    return tuple(steps)


def step_text(step: Step) -> str:
    """Return a step as text: its name, and the options that are not at their default."""
    changed = [
        f"{field.name}={_written(value)}"
        for field in dataclasses.fields(step)
        if (value := getattr(step, field.name)) != field.default
    ]
    return step.name + (f"{{{' '.join(changed)}}}" if changed else "")


def _make(step: type[StepT], text: str, kind: str) -> StepT:
    fields = {field.name: field for field in dataclasses.fields(step)}
    options: dict[str, Any] = {}
    for pair in text.split():
        key, _, value = pair.partition("=")
        if key not in fields:
            raise unknown_option(f"option of {kind} '{step.name}'", key, fields)
        options[key] = _cast(value, fields[key].default, f"option '{key}' of {kind} '{step.name}'")
    return step(**options)


def _cast(value: str, default: object, what: str) -> object:
    """Read an option's value as the type of its default."""
    known = {"true": True, "false": False}
    try:
        return known[value] if isinstance(default, bool) else type(default)(value)  # type: ignore[call-arg]  # a scalar
    except (KeyError, ValueError) as error:
        kind = type(default).__name__
        raise OptionError(
            f"'{value}' is no {kind}, which {what} takes.", remedy=f"For example: {_written(default)}."
        ) from error


def _written(value: object) -> str:
    """Return an option's value as text that ``_cast`` reads."""
    return str(value).lower() if isinstance(value, bool) else str(value)
