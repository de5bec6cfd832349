"""tried: a captured graph on other inputs than it was captured with, beside its model."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxquant.errors import GuardError
from fxquant.graph.capture_notes import Resistance, capture_notes
from fxquant.graph.fresh import of_other_batch, of_other_sizes, of_other_values, rows_of
from fxquant.graph.record import Example
from fxquant.graph.stand_in import GRAPH, StandIn
from fxquant.graph.state import kept_state
from fxquant.graph.structure import leaves

_RELATIVE = 1e-3  # of the norm: other batch sizes take other kernels, whose sums differ in the last bits
_RELATIVE_HALF = 5e-2


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came out when a graph was tried beside its model.

    Attributes:
        found: How it differs, and the layer to blame; None where it does not.
        holds_for_any_batch: Whether it gave what the model gives on another batch size, as far as that
            was tried.
    """

    found: Resistance | None = None
    holds_for_any_batch: bool = True


def tried(
    model: nn.Module, graph: nn.Module, example: Example, result: Any, *, is_random: bool, is_half: bool
) -> Verdict:
    """Try a graph on other values and another batch size, beside its model.

    Args:
        model: The model.
        graph: Its graph.
        example: The call it was captured with.
        result: What the model gave for it.
        is_random: Whether the model draws random numbers.
        is_half: Whether the model computes in a half type.
    """
    rows = rows_of(example)
    tolerance = _RELATIVE_HALF if is_half else _RELATIVE
    found: Resistance | None = None
    if rows == 1 and not is_random and _has_rows(result, 1):
        inputs = of_other_batch(example, 2)
        given = run(graph, inputs)
        if not isinstance(given, Exception) and is_same(_first_rows(given, 1), result, tolerance):
            return Verdict()
        found = _compared(given, run(model, inputs), tolerance)
    for size in ((rows + 1) // 2, rows + 1) if rows > 1 else ():
        inputs = of_other_values(of_other_batch(example, size))
        given = run(graph, inputs)
        if isinstance(given, GuardError) and size <= rows:
            continue  # one row is a special size to many forwards
        wanted = run(model, inputs)
        if isinstance(wanted, Exception):
            break
        found = _compared(given, wanted, tolerance)
        if found is None:
            return Verdict()
        if found.layer and not (isinstance(given, GuardError) and _holds_most(model, found.layer)):
            return Verdict(found=found)
        break
    inputs = of_other_values(example)  # the batch size is fixed
    return Verdict(
        found=_compared(run(graph, inputs), run(model, inputs), tolerance), holds_for_any_batch=found is None
    )


def depends_on_sizes(model: nn.Module, graph: nn.Module, example: Example, *, is_half: bool) -> bool:
    """Whether a graph takes inputs of another size, on which it differs from its model.

    Then Python computed with a size in a way that a traced number does not see.
    """
    one_row = of_other_batch(example, 1) if rows_of(example) > 1 else example  # the cheapest that may do
    for inputs in (of_other_sizes(one_row), of_other_sizes(example)):
        given = None if inputs is None else run(graph, inputs)
        if inputs is not None and not isinstance(given, Exception):
            break
    else:
        return False
    wanted = run(model, inputs)
    return isinstance(wanted, Exception) or not is_same(
        given, wanted, _RELATIVE_HALF if is_half else _RELATIVE
    )


def run(model: nn.Module, example: Example) -> Any:
    """Return what a model gives, or the exception it raises; random numbers are the same every time."""
    args, kwargs = example.copied()
    with seeded(), kept_state(model), contextlib.redirect_stderr(io.StringIO()):  # fx prints an error's lines
        try:
            return model(*args, **kwargs)
        except Exception as error:  # whatever the user's code raises
            return error


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Let random numbers inside the context be the same every time; the caller's go on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _holds_most(model: nn.Module, layer: str) -> bool:
    """Whether a layer holds most of a model: then a guard is better than keeping it whole."""
    own, every = (
        sum(parameter.numel() for parameter in module.parameters())
        for module in (model.get_submodule(layer), model)
    )
    return 2 * own > every


def _compared(given: Any, wanted: Any, tolerance: float) -> Resistance | None:
    if isinstance(wanted, Exception):
        return None  # the model does not take such inputs
    if isinstance(given, GuardError):
        return Resistance(layer=given.layer or "", reason=f"depends on the batch size ({given.what})")
    reader = getattr(given, "obj", None)
    inner = capture_notes(getattr(reader, GRAPH)) if isinstance(reader, StandIn) else None
    if isinstance(given, AttributeError) and inner is not None:
        return Resistance(layer=inner.path, reason=f"is read by the layer that calls it (.{given.name})")
    if isinstance(given, Exception):
        return Resistance(layer="", reason=f"fails as a graph ({type(given).__name__}: {given})")
    if not is_same(given, wanted, tolerance):
        return Resistance(layer="", reason="gives other results as a graph")
    return None


def is_same(given: Any, wanted: Any, tolerance: float) -> bool:
    """Whether two results hold equal tensors and numbers, up to a share of their norm."""
    ours, theirs = list(leaves(given)), list(leaves(wanted))
    return len(ours) == len(theirs) and all(
        _is_close(a, b, tolerance) for a, b in zip(ours, theirs, strict=True)
    )


def _is_close(ours: Any, theirs: Any, tolerance: float) -> bool:
    if not isinstance(ours, torch.Tensor) or not isinstance(theirs, torch.Tensor):
        return bool(ours == theirs)
    if ours.shape != theirs.shape:
        return False
    if not ours.is_floating_point() and not ours.is_complex():
        return ours.numel() == 0 or float((ours != theirs).double().mean()) <= tolerance
    is_half = torch.float16 in (ours.dtype, theirs.dtype) or torch.bfloat16 in (ours.dtype, theirs.dtype)
    kind = torch.complex128 if ours.is_complex() else torch.float64
    ours, theirs = ours.to(kind), theirs.to(kind)
    agrees = (ours == theirs) | (ours.isnan() & theirs.isnan())
    error = torch.where(agrees, 0.0, ours - theirs).norm()
    size = torch.where(theirs.isfinite(), theirs, 0.0).norm()
    return bool(error <= (max(_RELATIVE_HALF, tolerance) if is_half else tolerance) * size)


def _has_rows(result: Any, rows: int) -> bool:
    return all(
        isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.shape[0] == rows for leaf in leaves(result)
    )


def _first_rows(result: Any, rows: int) -> list[Any]:
    return [leaf[:rows] if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf for leaf in leaves(result)]
