"""Inputs: the values of a forward's parameters, by name and in order."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Input:
    """One value that a forward is given.

    Attributes:
        name: Name of the parameter; of an element of ``*args``, the name with its number.
        value: What it is given.
        is_positional: Whether it has to be given by position.
    """

    name: str
    value: Any
    is_positional: bool = True


Inputs = list[Input]


def bound_inputs(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    """Return what a call gives each parameter of a forward; parameters left to their defaults are left out.

    Raises:
        TypeError: If the call does not fit the forward.
    """
    try:
        signature = inspect.signature(forward)
    except ValueError:  # compiled code has none
        named = [Input(name=f"input_{index}", value=value) for index, value in enumerate(args)]
        return named + [Input(name=name, value=value, is_positional=False) for name, value in kwargs.items()]
    bound = signature.bind(*args, **kwargs)
    inputs: Inputs = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            inputs += [Input(name=f"{name}_{index}", value=item) for index, item in enumerate(value)]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            inputs += [Input(name=key, value=item, is_positional=False) for key, item in value.items()]
        else:
            is_positional = kind is not inspect.Parameter.KEYWORD_ONLY and name not in kwargs
            inputs.append(Input(name=name, value=value, is_positional=is_positional))
    return inputs


def call_arguments(inputs: Inputs, values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments of a call that gives the inputs other values."""
    pairs = list(zip(inputs, values, strict=True))
    args = tuple(value for entry, value in pairs if entry.is_positional)
    return args, {entry.name: value for entry, value in pairs if not entry.is_positional}
