"""Interception: while a model runs, hand its calls of torch, of modules and of numbers to a recorder."""

import builtins
import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import Function
from torch.distributions import Distribution
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fxquant.graph.annotations import below
from fxquant.graph.capture_notes import Resistance
from fxquant.graph.counting import MacCounter
from fxquant.graph.inputs import Inputs, bound_inputs, call_arguments
from fxquant.graph.leaves import holding, stays_call, tensors_held
from fxquant.graph.names import LEAF_ROOT
from fxquant.graph.patches import (
    Run,
    attention_fast_path_disabled,
    compiling,
    forward_replaced,
    number_function,
    patched,
    range_class,
    takes_no_overrides_once,
)
from fxquant.graph.recorded_run import RecordedRun
from fxquant.graph.recorded_values import bind_input, bind_whole, write_output
from fxquant.graph.recorder import Recorder
from fxquant.graph.traced_numbers import plain
from fxquant.graph.user_code import user_line

OPAQUE_ROOT = "model"  # where a graph holds the user's model when its own forward has to stay whole


class Interception(TorchFunctionMode):
    """Lets a recorder see what runs.

    Args:
        recording: Where the graphs go.

    Attributes:
        call: What calls a module, hooks included.
    """

    call: Run = staticmethod(nn.Module.__call__)

    def __init__(self, recording: RecordedRun) -> None:
        super().__init__()
        self._recording = recording
        self._paths = {
            id(m): path for path, m in reversed([*recording.root.named_modules(remove_duplicate=False)])
        }
        self._held = {id(m): tensors_held(m) for m in recording.root.modules()}
        self._recorder: Recorder | None = None  # None: what runs is not recorded
        self._opaque: list[str] = []  # paths of the opaque layers that run
        self._counter = MacCounter()
        self._is_leaf: dict[int, bool] = {}
        self._forms: dict[str, list[tuple[str, type]]] = {}

    @contextlib.contextmanager
    def into(self, recorder: Recorder | None) -> Iterator[None]:
        """Record into another graph, or into none."""
        before, self._recorder = self._recorder, recorder
        try:
            yield
        finally:
            self._recorder = before

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Intercept inside the context."""
        with contextlib.ExitStack() as stack:
            # first: it imports the compiler, which looks at the builtins once and for all
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(patched(nn.Module, "__call__", self._module_call(type(self).call)))
            stack.enter_context(patched(builtins, "range", range_class()))
            for name in ("sqrt", "log", "log2", "log10", "exp", "pow", "ceil", "floor", "trunc"):
                stack.enter_context(patched(math, name, number_function(getattr(math, name))))
            stack.enter_context(patched(Function, "apply", self._custom_apply()))
            stack.enter_context(patched(torch.autocast, "__enter__", self._enter_autocast()))
            stack.enter_context(patched(torch.autocast, "__exit__", lambda autocast, *raised: False))
            stack.enter_context(compiling(self._recording.is_compiled))
            stack.enter_context(patched(Distribution, "_validate_args", False))  # a check, not a branch
            stack.enter_context(attention_fast_path_disabled())
            if self._recording.opaque:
                stack.enter_context(self._counter)
            stack.enter_context(torch.enable_grad())  # what the forward switches off is noted
            stack.enter_context(self)
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recorder = self._recorder
        if recorder is None:
            return func(*args, **(kwargs or {}))
        if torch._C._functorch.peek_interpreter_stack() is not None:
            recorder.resist("transforms a function (torch.func)", str(user_line()))
            return func(*args, **(kwargs or {}))
        if func in _COMPOSITE:
            with self, takes_no_overrides_once():
                return func(*args, **(kwargs or {}))
        return recorder.call(func, args, kwargs or {})

    def _module_call(self, original: Run) -> Run:
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._recorder is not None:
                return self._recorded(original, module, args, kwargs)
            if self._opaque:
                return self._called_by_opaque(original, module, args, kwargs)
            return original(module, *args, **kwargs)

        return call

    def _recorded(self, original: Run, module: nn.Module, args: Any, kwargs: Any) -> Any:
        recorder = self._recorder
        assert recorder is not None
        if torch._C._functorch.peek_interpreter_stack() is not None:
            recorder.resist("transforms a function (torch.func)", str(user_line()))
            with self.into(None):
                return original(module, *args, **kwargs)
        full = self._paths.get(id(module))
        path = None if full is None else below(full, recorder.path)
        if full is not None and full in self._recording.opaque:
            run = self._opaque_run(original, module, full)
            return bind_whole(recorder, *recorder.module_call(path or OPAQUE_ROOT, full, args, kwargs, run))
        if self._stays_call(module) and self._holds_its_own(module):
            target = LEAF_ROOT if path == "" else path
            if target is None:
                target = recorder.add_module(f"unregistered_{type(module).__name__.lower()}", module)
            return self._leaf(original, module, recorder, target, full or target, args, kwargs)
        return self._followed(original, module, recorder, full or recorder.layers[-1], args, kwargs)

    def _followed(
        self, call: Run, module: nn.Module, recorder: Recorder, layer: str, args: Any, kwargs: Any
    ) -> Any:
        """Run a module whose own calls are recorded."""
        recorder.layers.append(layer)
        try:
            return call(module, *args, **kwargs)
        except Exception:
            if self._recording.failed is None:
                self._recording.failed = layer
            raise
        finally:
            recorder.layers.pop()

    def _leaf(
        self, call: Run, module: nn.Module, recorder: Recorder, path: str, layer: str, args: Any, kwargs: Any
    ) -> Any:
        has_hooks = module._forward_hooks or module._forward_pre_hooks
        inner = module.forward if has_hooks else functools.partial(call, module)

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.into(None):
                return inner(*args, **kwargs)

        def leaf(*args: Any, **kwargs: Any) -> Any:
            return recorder.bind(*recorder.module_call(path, layer, args, kwargs, run))

        if not has_hooks:
            return leaf(*args, **kwargs)
        recorder.layers.append(layer)  # what the hooks compute is recorded around the call
        with forward_replaced(module, leaf):
            result = call(module, *args, **kwargs)
        recorder.layers.pop()
        return result

    def _opaque_run(self, original: Run, module: nn.Module, path: str) -> Run:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._opaque.append(path)
            try:
                with self.into(None), self._counter.counting_for(path), compiling(False):  # as it will run
                    return original(module, *args, **kwargs)
            finally:
                self._opaque.pop()

        return run

    def _called_by_opaque(self, original: Run, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a layer that an opaque one calls, with a graph of its own."""
        path = self._paths.get(id(module))
        if not path or path in self._recording.opaque:
            return self._opaque_run(original, module, path or "")(*args, **kwargs)
        inputs = bound_inputs(module.forward, args, kwargs)
        form = [(entry.name, type(entry.value)) for entry in inputs]
        self._recording.calls[path] += 1
        if path not in self._forms:
            self._forms[path] = form
            return self.record(original, module, path, inputs)
        if self._forms[path] != form:
            self._recording.unlike.append(Resistance(layer=path, reason="is called in several ways"))
        with self._outside(), self._counter.counting_for(None):
            return original(module, *args, **kwargs)

    def record(self, call: Run, module: nn.Module, path: str, inputs: Inputs) -> Any:
        """Record one call of a module as a graph; return what it gives.

        Args:
            call: What calls a module.
            module: The module.
            path: Its dotted path in the user's model.
            inputs: The values of its parameters, by name and in order.
        """
        is_whole = path in self._recording.opaque or self._stays_call(module)
        root = (
            holding(module, OPAQUE_ROOT if path in self._recording.opaque else LEAF_ROOT)
            if is_whole
            else module
        )
        recorder = self._recording.graphs[path] = Recorder(root, path)
        given = [bind_input(recorder, entry.name, entry.value) for entry in inputs]
        args, kwargs = call_arguments(inputs, given)
        with self.into(recorder), self._counter.counting_for(None), compiling(self._recording.is_compiled):
            if is_whole:
                result = self._recorded(call, module, args, kwargs)
            else:
                result = self._followed(call, module, recorder, path, args, kwargs)
        with self.into(None):
            write_output(recorder, result)
        recorder.is_open = False
        self._recording.whole_macs = self._counter.macs
        return plain(result)

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        opaque, self._opaque = self._opaque, []
        try:
            yield
        finally:
            self._opaque = opaque

    def _stays_call(self, module: nn.Module) -> bool:
        if id(module) not in self._is_leaf:
            self._is_leaf[id(module)] = stays_call(module)
        return self._is_leaf[id(module)]

    def _holds_its_own(self, module: nn.Module) -> bool:
        """Whether a layer holds the tensors it held before: torch.func.functional_call lends it others."""
        held = self._held.get(id(module))
        return held is None or held == tensors_held(module)

    def _custom_apply(self) -> Any:
        original: Any = Function.__dict__["apply"].__func__

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            recorder = self._recorder
            if recorder is None or kwargs:
                return original(cls, *args, **kwargs)
            with self.into(None):
                return recorder.custom_call(cls.apply, cls.__name__.lower(), args)

        return classmethod(apply)

    def _enter_autocast(self) -> Any:
        def enter(autocast: torch.autocast) -> torch.autocast:
            self._recording.uses_autocast |= bool(autocast._enabled)
            return autocast

        return enter


_COMPOSITE = frozenset((F.multi_head_attention_forward,))
