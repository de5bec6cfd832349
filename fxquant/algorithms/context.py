"""Context: what a run of an algorithm is given, and what it says and changes on the way."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from fxquant.algorithms.reference import forget_original, has_original, keep_original
from fxquant.algorithms.report import AlgorithmSite
from fxquant.errors import OptionError
from fxquant.quantization.affine import QuantizeDequantize


@dataclass(frozen=True, kw_only=True)
class Context:
    """One run of an algorithm.

    Changes are made through ``write``, ``change``, ``set_parameter`` and ``on_error``, so that an error
    leaves the model as it was: until the run ends, what was overwritten is kept.

    Attributes:
        batches: The data, as ``calibrate`` takes it; None where none was given.
        progress: Whether to show a progress bar.
        seed: Seed of the run; torch's generators were seeded with it.
        checkpoint: A file to go on from, and to keep what is done in; None for none.
        sites: What was done so far; use ``applied`` and ``declined``.
    """

    batches: object = None
    progress: bool = True
    seed: int = 0
    checkpoint: Path | None = None
    sites: list[AlgorithmSite] = field(default_factory=list)
    _undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _written: set[int] = field(default_factory=set)

    def applied(
        self, layer: str, reason: str, before: float | None = None, after: float | None = None
    ) -> None:
        """Report a site as changed, with the error before and after where it was measured."""
        self.sites.append(AlgorithmSite(layer=layer, applied=True, reason=reason, before=before, after=after))

    def declined(
        self, layer: str, reason: str, before: float | None = None, after: float | None = None
    ) -> None:
        """Report a site as left alone."""
        self.sites.append(
            AlgorithmSite(layer=layer, applied=False, reason=reason, before=before, after=after)
        )

    def write(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Write values into a parameter or buffer, in place, that leave the model's function as it is.

        Args:
            tensor: The parameter or buffer; every holder of it sees the values.
            value: Of the same shape; cast to its type.

        Raises:
            OptionError: If an algorithm before it changed the tensor's part in the function: what the float
                model has there would no longer belong to the values here.
        """
        if has_original(tensor):
            raise OptionError(
                "A weight or bias was rounded or corrected before, and is now to be scaled or moved.",
                remedy="Run the algorithms that keep the function first, as in fxquant.algorithms.CATALOGUE.",
            )
        self._write(tensor, value)

    def change(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Write values that change the function; the tensor keeps what it is in the float model.

        Args:
            tensor: The parameter or buffer.
            value: Of the same shape; cast to its type.
        """
        if not has_original(tensor):
            keep_original(tensor, tensor)
            self.on_error(lambda: forget_original(tensor))
        self._write(tensor, value)

    def _write(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        if id(tensor) not in self._written:
            self._written.add(id(tensor))
            before = tensor.detach().clone()
            self.on_error(lambda: _copy(tensor, before))
        _copy(tensor, value)

    def set_parameter(
        self, module: nn.Module, name: str, value: torch.Tensor, *, changes_function: bool = False
    ) -> None:
        """Write a parameter, or give a module one that it has room for and lacks, such as a bias.

        Args:
            module: The module.
            name: The parameter's name.
            value: Its values.
            changes_function: Whether the model computes something else afterwards, see ``change``.
        """
        parameter = module._parameters[name]
        if parameter is None:
            like = next(held for held in module._parameters.values() if held is not None)
            zeros = torch.zeros_like(value, dtype=like.dtype)
            parameter = nn.Parameter(zeros, requires_grad=like.requires_grad)
            module.register_parameter(name, parameter)
            self.on_error(lambda: module.register_parameter(name, None))
        (self.change if changes_function else self.write)(parameter, value)

    def keep_range(self, quantizer: QuantizeDequantize) -> None:
        """Let calibration leave the range of a quantizer as it is from now on."""
        if quantizer.is_overwrite_allowed():
            quantizer.allow_overwrite(False)
            self.on_error(lambda: quantizer.allow_overwrite(True))

    def set_range(self, quantizer: QuantizeDequantize, low: torch.Tensor, high: torch.Tensor) -> None:
        """Write the range of a quantizer that has one, and let calibration leave it so."""
        self.remember(quantizer)
        quantizer.set_range(low, high)
        self.keep_range(quantizer)

    def remember(self, module: nn.Module) -> None:
        """Bring a module's own parameters back on an error, whoever writes them from now on."""
        for held in module._parameters.values():
            if held is not None:
                self.write(held, held)

    def on_error(self, undo: Callable[[], object]) -> None:
        """Call a function if the run fails; those added last are called first."""
        self._undo.callback(undo)

    @contextlib.contextmanager
    def undoing(self) -> Iterator[None]:
        """Undo every change on an error, or an interrupt, inside."""
        with self._undo:
            yield
            self._undo.pop_all()
            self._written.clear()


def _copy(tensor: torch.Tensor, value: torch.Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(value)
