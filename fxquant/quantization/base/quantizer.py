"""QuantizerBase: what every quantizer module offers."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from fxquant.errors import NotCalibratedError, QuantizerError
from fxquant.quantization.base.encoding import EncodingBase
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer
from fxquant.quantization.tensor import DequantizedTensor, QuantizedTensorBase, version_of


class QuantizerBase(ABC, nn.Module):
    """A module that puts a tensor on a grid.

    Its numbers stay float32 at least: casting a model to a half type does not coarsen its encodings.

    Attributes:
        encoding_analyzer: Finds the range during calibration; None where there is nothing to find.
        returns_encoding: Whether outputs are tensors that carry their encoding. Prepared graphs do without:
            a tensor subclass costs some 10 us at each op it goes through.
        takes_integers: Whether integer tensors are codes to it; otherwise they are returned as they are.
        reads_codes: Whether it makes real values of a constant's stored codes, for good.
    """

    encoding_analyzer: EncodingAnalyzer | None = None
    returns_encoding: bool = True
    takes_integers: bool = False
    reads_codes: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._overwrite_allowed: dict[str, bool] = {}
        self._pristine: dict[str, tuple[torch.Tensor, int]] = {}
        self._observes = False
        self._passes_through = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Quantize a tensor; inside ``compute_encodings`` observe it first.

        Raises:
            NotCalibratedError: If the quantizer has no range and the tensor is not empty.
            QuantizerError: If the range does not fit the tensor.
        """
        input = plain_tensor(input)
        if not input.is_floating_point() and not self.takes_integers:
            return input
        if self._observes and self.encoding_analyzer is not None and input.numel() > 0:
            statistics = self.encoding_analyzer.update_stats(input)
            if self._passes_through:
                return input.clone()
            encoding = self._dynamic_encoding(statistics)
        else:
            encoding = self._encoding_for(input)
        return self._quantized(input, encoding)

    @abstractmethod
    def _quantized(self, input: torch.Tensor, encoding: Any) -> torch.Tensor:
        """Return what the quantizer makes of a plain tensor with an encoding."""

    def overwrite(self, tensor: torch.Tensor) -> bool:
        """Write what the quantizer makes of a tensor into it; return whether it did, or left it alone.

        Args:
            tensor: A plain float tensor on a CPU that nobody else sees; no gradient is wanted.
        """
        return False

    def keeps(self, tensor: torch.Tensor) -> bool:
        """Whether quantizing a tensor on the grid again would give the same numbers, to the last bit."""
        return False

    @abstractmethod
    def _dynamic_encoding(self, statistics: Any) -> EncodingBase:
        """Return the encoding for the range that the statistics of one input give."""

    @abstractmethod
    def get_encodings(self) -> EncodingBase | None:
        """Return the encoding as it stands now; None while there is no range."""

    @classmethod
    @abstractmethod
    def from_encodings(cls, encodings: Any) -> "QuantizerBase":
        """Make a quantizer that gives an encoding.

        Raises:
            TypeError: If the encoding is of another kind.
        """

    def get_encoding(self) -> EncodingBase | None:
        """Return the encoding; AIMET's earlier name of ``get_encodings``."""
        return self.get_encodings()

    def get_legacy_encodings(self) -> list[dict[str, Any]] | None:
        """Return the encoding as entries of an encodings file of version 0.6.1; None while there is none."""
        encoding = self.get_encodings()
        entries: Any = None if encoding is None else encoding.to_qnn_encoding_dict("0.6.1")
        return entries  # type: ignore[no-any-return]  # a list in this version

    def compute_encodings(self) -> contextlib.AbstractContextManager[None]:
        """Observe every input inside the context, and set the range on a clean exit, if anything was seen.

        Meanwhile calls give what quantization with the range of that input alone would give. Nothing is
        written when the context ends by an exception.
        """
        return self.observing(pass_through=False)

    @contextlib.contextmanager
    def observing(self, pass_through: bool) -> Iterator[None]:
        """Observe inputs as ``compute_encodings`` does; with ``pass_through`` calls give a copy of them."""
        if self.encoding_analyzer is None or not self.is_overwrite_allowed():
            yield
            return
        self.encoding_analyzer.reset_stats()
        before = self._observes, self._passes_through
        self._observes, self._passes_through = True, pass_through
        try:
            yield
        finally:
            self._observes, self._passes_through = before
        if self.encoding_analyzer.observed_range is not None:
            self.set_range_from_stats()

    def calibrate(self, tensor: torch.Tensor) -> None:
        """Set the range for one tensor that is all there is to see, such as a weight."""
        if self.encoding_analyzer is not None and tensor.numel() > 0:
            self.encoding_analyzer.reset_stats()
            self.encoding_analyzer.update_stats(tensor.as_subclass(torch.Tensor))
            self.set_range_from_stats()
            self.encoding_analyzer.reset_stats()

    @property
    def is_observing(self) -> bool:
        """Whether the quantizer is inside ``compute_encodings``."""
        return self._observes

    @abstractmethod
    def set_range_from_stats(self) -> None:
        """Set the range that the analyzer derives from what it observed."""

    def is_initialized(self) -> bool:
        """Whether every number of the range was set since construction, in whatever way."""
        return torch.compiler.is_compiling() or not self._unset()

    def has_range(self) -> bool:
        """Whether its range was found, given or fixed: also where there is a scale without one."""
        return not self._unset()

    def allow_overwrite(self, mode: bool | None = None, **by_name: bool) -> None:
        """Say whether calibration may change the range, or only some of its numbers: ``min=False``.

        ``set_range`` always may.

        Raises:
            QuantizerError: If there is no number of that name.
        """
        known = sorted(self._overwrite_allowed)
        unknown = sorted(by_name.keys() - set(known))
        if unknown:
            raise QuantizerError(
                f"'allow_overwrite' expected param names {known}; got unexpected parameter names {unknown}."
            )
        changes = {} if mode is None else dict.fromkeys(known, mode)
        self._overwrite_allowed.update(changes | by_name)

    def is_overwrite_allowed(self, name: str | None = None) -> bool:
        """Whether calibration may change a number of the range; without a name, any of them.

        Raises:
            QuantizerError: If there is no number of that name.
        """
        if name is None:
            return any(self._overwrite_allowed.values())
        if name not in self._overwrite_allowed:
            raise QuantizerError(f"The range has no '{name}'; it has {sorted(self._overwrite_allowed)}.")
        return self._overwrite_allowed[name]

    @property
    def _allow_overwrite(self) -> bool:  # AIMET's name of old, still in users' code
        return self.is_overwrite_allowed()

    @_allow_overwrite.setter
    def _allow_overwrite(self, mode: bool) -> None:
        self.allow_overwrite(mode)

    def register_quantization_parameter(self, name: str, parameter: nn.Parameter | None) -> None:
        """Register a number of the range, not yet set: it is once it is replaced or written in place."""
        self.register_parameter(name, parameter)
        self._pristine.pop(name, None)
        if parameter is not None:
            self._mark_pristine([name])

    def _encoding_for(self, input: torch.Tensor) -> EncodingBase:
        """Return the encoding to use for an input.

        Raises:
            NotCalibratedError: If there is none and the input is not empty.
        """
        encoding = self.get_encodings()
        if encoding is not None:
            return encoding
        if input.numel() == 0:
            return self._encoding_of_nothing()
        raise NotCalibratedError(
            f"Failed to run {type(self).__name__} since quantization parameters are not initialized.",
            remedy="Please initialize the quantization parameters using `compute_encodings()`, "
            "or fxquant.calibrate(model, batches) for a prepared model.",
        )

    @abstractmethod
    def _encoding_of_nothing(self) -> EncodingBase:
        """Return an encoding of scale 1, to quantize empty tensors with before there is a range."""

    def _carrying(
        self,
        output: torch.Tensor,
        encoding: EncodingBase,
        kind: type[QuantizedTensorBase] = DequantizedTensor,
    ) -> torch.Tensor:
        """Return an output that carries its encoding, where that is wanted and can be traced."""
        if not self.returns_encoding or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            return output
        return kind.carrying(output, encoding)

    def _unset(self) -> list[str]:
        """Return the parameters that still are the initial object, never written in place."""
        return [
            name
            for name, (parameter, version) in self._pristine.items()
            if getattr(self, name) is parameter and version_of(parameter) == version
        ]

    def _mark_pristine(self, names: Iterable[str]) -> None:
        marks = {name: (getattr(self, name), version_of(getattr(self, name))) for name in names}
        self._pristine = {**self._pristine, **marks}

    def _remark(self, unset: Iterable[str]) -> None:
        self._pristine = {}
        self._mark_pristine(unset)

    def get_extra_state(self) -> Any:
        """Return what the state dict needs beside tensors: whether each parameter is set."""
        if torch.onnx.is_in_onnx_export():
            return torch.empty(0)  # the exporter takes tensors only, and needs none of this
        unset = self._unset()
        return {name: torch.tensor(name not in unset) for name in self._parameters}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Mark the parameters that a state dict says are not set."""
        self._remark(name for name in self._parameters if not bool(state.get(name, True)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        missing_keys: list[str] = args[2]
        super()._load_from_state_dict(state_dict, prefix, *args)
        key = f"{prefix}_extra_state"
        if key in missing_keys:  # written by hand: what it holds counts as set
            missing_keys.remove(key)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        unset = self._unset()

        def keep_precision(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            is_coarser = result.is_floating_point() and result.dtype.itemsize < 4
            return tensor.to(result.device) if is_coarser else result

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]  # torch is untyped here
        self._remark(unset)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pristine": {}, "_unset_names": self._unset()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        unset = state.pop("_unset_names")
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch is untyped here
        self._remark(unset)


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of whatever class as torch.Tensor, which runs ops faster."""
    if type(tensor) is torch.Tensor or torch.compiler.is_compiling():
        return tensor
    return tensor.as_subclass(torch.Tensor)
