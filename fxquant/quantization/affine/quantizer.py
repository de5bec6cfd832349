"""QuantizeDequantize: a quantizer with a learnable range."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from fxquant.errors import NotCalibratedError, OptionError, QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer, MinMaxEncodingAnalyzer
from fxquant.quantization.encodings import AffineEncoding
from fxquant.quantization.quantizer import QuantizerBase
from fxquant.quantization.spec import QuantizationSpec

_RANGE = ("min", "max")
_GRID = ("qmin", "qmax", "symmetric")


class QuantizeDequantize(QuantizerBase):
    """Puts a tensor on an affine grid and returns the grid's real values.

    The range is two parameters, ``min`` and ``max``, of shape ``shape``: calibrated, then trainable. The
    scale and offset follow from them (``functional.scale_and_offset``).

    Args:
        shape: Shape of scale and offset: () per tensor, otherwise broadcastable against the tensor.
        qmin: Lowest code, in the form (shape, qmin, qmax, symmetric).
        qmax: Highest code.
        bitwidth: In the form (shape, bitwidth, symmetric), gives [-2^(b-1), 2^(b-1) - 1] when symmetric and
            [0, 2^b - 1] otherwise.
        symmetric: Whether zero lies in the middle of the grid.
        encoding_analyzer: Finds the range during calibration; min-max by default.

    Raises:
        TypeError: If the arguments match neither form.
        QuantizerError: If the analyzer has another shape.
        OptionError: If qmin is not below qmax.

    Example:
        >>> import fxquant.quantization as Q
        >>> Q.affine.QuantizeDequantize(shape=(), bitwidth=8, symmetric=False)
        QuantizeDequantize(shape=(), qmin=0, qmax=255, symmetric=False)
    """

    min: nn.Parameter
    max: nn.Parameter

    def __init__(
        self,
        shape: tuple[int, ...] | int,
        *args: int | bool,
        encoding_analyzer: EncodingAnalyzer | None = None,
        **kwargs: int | bool,
    ) -> None:
        super().__init__()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.qmin, self.qmax, self.symmetric = _parse_grid(args, kwargs)
        self.encoding_analyzer = encoding_analyzer or MinMaxEncodingAnalyzer(self.shape)
        if self.encoding_analyzer.shape != self.shape:
            raise QuantizerError(
                f"An analyzer of shape {self.encoding_analyzer.shape} cannot serve a quantizer of shape "
                f"{self.shape}.",
                remedy="Give both the same shape.",
            )
        self.min = nn.Parameter(-torch.ones(self.shape))
        self.max = nn.Parameter(torch.ones(self.shape))
        self._observes = False
        self._allows_overwrite = True
        self._mark_pristine(_RANGE)

    @classmethod
    def from_spec(cls, spec: QuantizationSpec, tensor_shape: tuple[int, ...] = ()) -> "QuantizeDequantize":
        """Make the quantizer that a spec asks for, with its fixed range set if it has one."""
        quantizer = cls(spec.scale_shape(tensor_shape), spec.qmin, spec.qmax, spec.symmetric)
        if spec.fixed_range is not None:
            minimum, maximum = (torch.full(quantizer.shape, bound) for bound in spec.fixed_range)
            analyzer = MinMaxEncodingAnalyzer(quantizer.shape)
            analyzer.update_stats(torch.stack((minimum, maximum)))
            quantizer.set_range(*analyzer.compute_encodings(spec.qmax - spec.qmin, spec.symmetric))
            quantizer.allow_overwrite(False)
        return quantizer

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the nearest values on the grid; inside ``compute_encodings`` observe input and pass it on.

        Raises:
            NotCalibratedError: If the quantizer has no range.
        """
        if self._observes and self._allows_overwrite:
            self.encoding_analyzer.update_stats(input)
            return input
        if not torch.compiler.is_compiling() and not self.is_initialized():
            raise NotCalibratedError(
                "Failed to run QuantizeDequantize since quantization parameters are not initialized.",
                remedy="Please initialize the quantization parameters using `compute_encodings()`, "
                "or fxquant.calibrate(model, batches) for a prepared model.",
            )
        scale, offset = self._scale_and_offset()
        return functional.quantize_dequantize(input, scale, offset, self.qmin, self.qmax)

    @contextlib.contextmanager
    def compute_encodings(self) -> Iterator[None]:
        """Observe every input inside the context; set the range on a clean exit, if anything was seen."""
        self.encoding_analyzer.reset_stats()
        self._observes = True
        try:
            yield
        finally:
            self._observes = False
        if self._allows_overwrite and self.encoding_analyzer.observed_range is not None:
            self.set_range_from_stats()

    def allow_overwrite(self, mode: bool) -> None:
        """Say whether calibration may change the range; ``set_range`` always may."""
        self._allows_overwrite = mode

    def is_overwrite_allowed(self) -> bool:
        """Whether calibration may change the range."""
        return self._allows_overwrite

    def set_range_from_stats(self) -> None:
        """Set the range that the analyzer derives from what it observed."""
        self.set_range(*self.encoding_analyzer.compute_encodings(self.qmax - self.qmin, self.symmetric))

    def set_range(self, min: torch.Tensor | float | None, max: torch.Tensor | float | None) -> None:
        """Write the range, each end of shape ``shape`` or a number; None leaves that end as it is."""
        with torch.no_grad():
            for name, value in (("min", min), ("max", max)):
                if value is not None:
                    getattr(self, name).copy_(torch.as_tensor(value).expand(self.shape))
                    self._pristine.pop(name, None)

    def is_initialized(self) -> bool:
        """Whether both ends of the range were set since construction, in whatever way."""
        return not self._unset()

    def get_scale(self) -> torch.Tensor | None:
        """Return the scale, of shape ``shape``; None before calibration."""
        return self._scale_and_offset()[0] if self.is_initialized() else None

    def get_offset(self) -> torch.Tensor | None:
        """Return the offset (minus the zero point), of shape ``shape``; None before calibration."""
        return self._scale_and_offset()[1] if self.is_initialized() else None

    def get_min(self) -> torch.Tensor | None:
        """Return the real value of the lowest code; None before calibration."""
        encoding = self.get_encodings()
        return None if encoding is None else encoding.min

    def get_max(self) -> torch.Tensor | None:
        """Return the real value of the highest code; None before calibration."""
        encoding = self.get_encodings()
        return None if encoding is None else encoding.max

    def get_encodings(self) -> AffineEncoding | None:
        """Return the encoding as it stands now; None before calibration."""
        if not self.is_initialized():
            return None
        return AffineEncoding(*self._scale_and_offset(), self.qmin, self.qmax, self.symmetric)

    def extra_repr(self) -> str:
        return f"shape={self.shape}, qmin={self.qmin}, qmax={self.qmax}, symmetric={self.symmetric}"

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the state dict needs beside the range: the grid, and which ends are set."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _GRID}
        state["initialized"] = {name: name not in self._unset() for name in _RANGE}
        return state

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the grid from a state dict, and mark the ends of the range it says are not set."""
        for name in _GRID:
            setattr(self, name, state[name])
        self._mark_pristine([name for name, is_set in state["initialized"].items() if not is_set])

    def _scale_and_offset(self) -> tuple[torch.Tensor, torch.Tensor]:
        return functional.scale_and_offset(self.min, self.max, self.qmin, self.qmax, self.symmetric)

    def _unset(self) -> list[str]:
        """Return the ends of the range that still are the initial object, never written in place."""
        return [
            name
            for name, (parameter, version) in self._pristine.items()
            if getattr(self, name) is parameter and _version(parameter) == version
        ]

    def _mark_pristine(self, names: Iterable[str]) -> None:
        self._pristine = {name: (getattr(self, name), _version(getattr(self, name))) for name in names}

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        unset = self._unset()
        super()._apply(*args, **kwargs)
        self._mark_pristine(unset)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pristine": None, "_unset_names": self._unset()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        unset = state.pop("_unset_names")
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch is untyped here
        self._mark_pristine(unset)


def _version(parameter: nn.Parameter) -> int:
    """Return how often a parameter was written in place; tensors of inference mode do not count it."""
    return 0 if parameter.is_inference() else parameter._version


def _parse_grid(args: tuple[int | bool, ...], kwargs: dict[str, int | bool]) -> tuple[int, int, bool]:
    """Return (qmin, qmax, symmetric) from either of the two argument forms."""
    for names in (("qmin", "qmax", "symmetric"), ("bitwidth", "symmetric")):
        given = dict(zip(names, args, strict=False))
        has_room = len(args) <= len(names) and not given.keys() & kwargs.keys()
        values = given | kwargs
        is_grid = isinstance(values.get("symmetric"), bool)
        if has_room and is_grid and values.keys() == set(names):
            symmetric = bool(values["symmetric"])
            if "bitwidth" in values:
                spec = QuantizationSpec(bitwidth=values["bitwidth"], signed=symmetric, symmetric=symmetric)
                return spec.qmin, spec.qmax, symmetric
            if values["qmin"] >= values["qmax"]:
                raise OptionError(f"qmin must be below qmax, not {values['qmin']} and {values['qmax']}.")
            return values["qmin"], values["qmax"], symmetric
    raise TypeError(
        "Unexpected arguments. Expected one of:\n"
        "  * (shape, qmin: int, qmax: int, symmetric: bool, encoding_analyzer=None)\n"
        "  * (shape, bitwidth: int, symmetric: bool, encoding_analyzer=None)\n"
        f"Got: {args} {kwargs}"
    )
