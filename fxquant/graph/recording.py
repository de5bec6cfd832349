"""capture_by_recording: run a model once and write down what it computes; what resists stays whole."""

import copy
import logging
import traceback
from collections import OrderedDict
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import CaptureError, first_line
from fxquant.graph.annotations import layer_of
from fxquant.graph.aten import as_torch_calls, note_layers
from fxquant.graph.capture_notes import CaptureNotes, Resistance, set_capture_notes
from fxquant.graph.edit import remove_dead_code, set_module, with_submodules
from fxquant.graph.fresh import of_other_values
from fxquant.graph.gradients import detach_at_borders
from fxquant.graph.guards import fix_input_sizes
from fxquant.graph.inputs import bound_inputs
from fxquant.graph.interception import Interception
from fxquant.graph.record import Example
from fxquant.graph.recorded_run import RecordedRun
from fxquant.graph.stand_in import stand_in
from fxquant.graph.state import kept_state, without_gradients
from fxquant.graph.trial import depends_on_sizes, run, seeded, tried
from fxquant.graph.user_code import UserLine, is_user_file

log = logging.getLogger(__name__)

_MOST_RUNS = 24
_MOST_DIMS = 64  # of a tensor
_UNSERVED = "is used by the layer that calls it in a way that a graph does not serve"
_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    "_forward_hooks_always_called",
)


def capture_by_recording(model: nn.Module, example: Example, class_name: str) -> fx.GraphModule:
    """Return a model's graph, recorded on one call and tried on other values and another batch size.

    A layer that does what no graph can say, such as branching on a tensor's contents, stays whole; what it
    calls gets graphs of its own.

    Args:
        model: The model, in evaluation mode; its layers become part of the result.
        example: A call of it.
        class_name: Name of the class of the result.

    Raises:
        CaptureError: If the model itself fails on the example.
    """
    opaque: dict[str, Resistance] = {}
    gm: fx.GraphModule | None = None
    is_compiled = True
    with torch.no_grad():
        for _ in range(_MOST_RUNS):
            with kept_state(model):
                recording, result = _record(model, example, frozenset(opaque), is_compiled=is_compiled)
            if recording.failed is not None and is_compiled:
                is_compiled = False  # some forwards work only uncompiled
                continue
            found = recording.resistances or _foreign(model, example, recording)
            if not found:
                gm = _build(recording, class_name)
                random, half = recording.is_random, recording.uses_autocast
                verdict = tried(model, gm, example, result, is_random=random, is_half=half)
                found = [] if verdict.found is None else [verdict.found]
            new = {r.layer: r for r in reversed(found) if r.layer not in opaque}
            if found and not new:  # what an opaque layer calls does not stand being a graph
                inner = [path for path in recording.graphs if path and path not in opaque]
                new = {path: Resistance(layer=path, reason=_UNSERVED) for path in inner}
            if not new:
                break
            for resistance in new.values():
                log.debug("captured again: %s", resistance)
            opaque |= new
        is_sized = gm is not None and depends_on_sizes(model, gm, example, is_half=recording.uses_autocast)
    if gm is None:
        reason = "; ".join(map(str, found))
        raise CaptureError(f"The model cannot be recorded: {reason}.", remedy="Report it, with the model.")
    guards = [guard for recorder in recording.graphs.values() for guard in recorder.guards]
    if not verdict.holds_for_any_batch:
        guards += fix_input_sizes(gm, range(1))
    if is_sized and not recording.is_random:
        guards += fix_input_sizes(gm, range(1, _MOST_DIMS))
    notes = CaptureNotes(
        way="recorded",
        guards=tuple(guards),
        opaque=tuple(opaque[layer] for layer in sorted(opaque)),
        whole_macs=dict(recording.whole_macs),
        uses_autocast=recording.uses_autocast,
        failure="; ".join(r.reason for r in found),
    )
    if notes.failure:
        log.warning("The captured graph differs from the model: %s", notes.failure)
    set_capture_notes(gm, notes)
    return gm


def _record(
    model: nn.Module, example: Example, opaque: frozenset[str], *, is_compiled: bool
) -> tuple[RecordedRun, Any]:
    """Run the model; return what was recorded, and what the model gave."""
    recording = RecordedRun(root=model, opaque=opaque, is_compiled=is_compiled)
    interception = Interception(recording)
    args, kwargs = example.copied()
    try:
        inputs = bound_inputs(model.forward, args, kwargs)
        with seeded(), without_gradients(model), interception.active():
            return recording, interception.record(interception.call, model, "", inputs)
    except Exception as error:  # whatever the user's code raises, of its own or because it is recorded
        _check_runs(model, example)
        layer = recording.failed or ""
        reason = f"cannot be recorded ({type(error).__name__}: {first_line(error)})"
        recording.unlike.append(Resistance(layer=layer, reason=reason, line=_raised_at(error)))
        return recording, None


def _check_runs(model: nn.Module, example: Example) -> None:
    outcome = run(model, example)
    if isinstance(outcome, Exception):
        raise CaptureError(
            f"The model fails on the example inputs: {type(outcome).__name__}: {first_line(outcome)}.",
            remedy="Pass example_inputs that the model takes.",
        ) from outcome


def _foreign(model: nn.Module, example: Example, recording: RecordedRun) -> list[Resistance]:
    """Return the layers that make tensors outside torch, such as through numpy, from what they are given.

    Such a tensor is a constant to the graph. It is one if the same object shows up again when the model runs
    on other values, or an equal one.
    """
    made = recording.foreign
    if not made:
        return []
    with kept_state(model):
        again, _ = _record(
            model, of_other_values(example), recording.opaque, is_compiled=recording.is_compiled
        )
    if len(again.foreign) != len(made):
        return [Resistance(layer=layer, reason="makes tensors outside torch") for _, layer in made]
    return [
        Resistance(layer=layer, reason="makes a tensor outside torch from what it is given")
        for (tensor, layer), (other, _) in zip(made, again.foreign, strict=True)
        if tensor is not other and not torch.equal(tensor, other)
    ]


def _build(recording: RecordedRun, class_name: str) -> fx.GraphModule:
    """Return the model's graph module; opaque layers are copies that call the graphs of their children."""
    graphs: dict[str, fx.GraphModule] = {}
    for path, recorder in reversed(recording.graphs.items()):
        recorder.attach()
        detach_at_borders(recorder.graph)
        remove_dead_code(recorder.root, recorder.graph)
        gm = fx.GraphModule(recorder.root, recorder.graph, class_name)
        if isinstance(recorder.root, fx.GraphModule):
            note_layers(gm, recorder.root)
        as_torch_calls(gm)
        for node in gm.graph.find_nodes(op="call_module"):
            _forget_recorded_hooks(gm, node, recording.opaque)
            layer = layer_of(node)
            inner = {
                p[len(layer) + 1 if layer else 0 :]: stand_in(recording.root.get_submodule(p), g)
                for p, g in graphs.items()
                if _is_below(p, layer)
            }
            if layer in recording.opaque and inner:
                target = str(node.target)
                set_module(gm, target, with_submodules(gm.get_submodule(target), inner))
        if path:
            set_capture_notes(gm, CaptureNotes(way="recorded", path=path, calls=recording.calls[path]))
        graphs[path] = gm
    return graphs[""]


def _forget_recorded_hooks(gm: fx.GraphModule, node: fx.Node, opaque: frozenset[str]) -> None:
    """Let a layer that stays a call run without hooks: what they compute is in the graph."""
    module = gm.get_submodule(str(node.target))
    if layer_of(node) in opaque or not (module._forward_hooks or module._forward_pre_hooks):
        return
    bare = copy.copy(module)
    for hooks in _HOOKS:
        setattr(bare, hooks, OrderedDict())
    set_module(gm, str(node.target), bare)


def _is_below(path: str, layer: str) -> bool:
    return path.startswith(f"{layer}.") if layer else bool(path)


def _raised_at(error: Exception) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_user_file(f.filename)]
    return str(UserLine(frames[-1].filename, frames[-1].lineno or 0, frames[-1].line or "")) if frames else ""
