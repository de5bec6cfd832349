"""AffineQuantizerBase: a learnable range on an affine grid."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import AffineEncoding, as_block_size, as_shift
from fxquant.quantization.affine.encoding_dict import affine_from_dict
from fxquant.quantization.affine.grid import GridMixin, bind, integer_grid
from fxquant.quantization.affine.parametrization import MIN_MAX, SCALE_OFFSET, holder_of
from fxquant.quantization.base import EncodingBase, QuantizerBase
from fxquant.quantization.base.range_checks import check_analyzer_shape, warn_of_extremes
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer, MinMaxEncodingAnalyzer
from fxquant.quantization.gradients import is_jit_traced
from fxquant.quantization.spec import QuantizationSpec

_TAIL = ("symmetric", "encoding_analyzer", "block_size", "zero_point_shift")
_FORMS = (("qmin", "qmax", *_TAIL), ("bitwidth", *_TAIL))
_ROUNDED = 2.0**-20  # relative error of min and max, each a product in float32
_GRID = ("qmin", "qmax", "symmetric", "block_size", "zero_point_shift")


class AffineQuantizerBase(GridMixin, QuantizerBase):
    """What quantizers on an affine grid have in common.

    The range is two parameters, ``min`` and ``max``, of shape ``shape``: calibrated, then trainable. Scale
    and offset follow from them (``functional.scale_and_offset``). Written (shape, qmin, qmax, symmetric, ...)
    or (shape, bitwidth, symmetric, ...), where a symmetric grid is signed and any other unsigned.

    Args:
        shape: Shape of scale and offset: () per tensor; otherwise broadcastable against the tensor, or the
            number of blocks by axis.
        *args: The grid and what follows, in either form.
        **kwargs: The same by name: qmin and qmax, or bitwidth; symmetric, whether zero lies in the middle of
            the grid; then

            - encoding_analyzer: finds the range during calibration; min-max by default;
            - block_size: block sizes by axis, -1 for what is left; None without blocks;
            - zero_point_shift: 0, or 0.5 for a grid half a step beside the whole steps.

    Raises:
        TypeError: If the arguments match neither form.
        QuantizerError: If the analyzer's shape does not fit.
        OptionError: If qmin is not below qmax, or the shift is neither 0 nor 0.5.
    """

    encoding_analyzer: EncodingAnalyzer
    encoding_class: ClassVar[type[AffineEncoding]] = AffineEncoding
    has_codes: ClassVar[bool] = False  # whether it reads or gives codes, which a shifted grid has not

    def __init__(self, shape: tuple[int, ...] | int, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        values = bind(type(self).__qualname__, _FORMS, args, kwargs, required=("symmetric",))
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self._symmetric = bool(values["symmetric"])
        if "bitwidth" in values:
            self.qmin, self.qmax = integer_grid(values["bitwidth"], signed=self._symmetric)
        else:
            self.qmin, self.qmax = values["qmin"], values["qmax"]
        self.block_size = as_block_size(values.get("block_size"))
        self.zero_point_shift = as_shift(values.get("zero_point_shift"))
        if self.zero_point_shift and self.has_codes:
            raise QuantizerError(f"{type(self).__name__} has no codes on a grid with a zero-point shift.")
        analyzer = values.get("encoding_analyzer")
        self.encoding_analyzer = analyzer or MinMaxEncodingAnalyzer(self.shape, self.block_size)
        check_analyzer_shape(self.encoding_analyzer, self.shape)
        self._parametrization = MIN_MAX
        MIN_MAX.register(self)
        self._overwrite_allowed = {"min": True, "max": True}
        self._derived: tuple[tuple[float, ...], EncodingBase] | None = None

    @classmethod
    def from_spec(cls, spec: QuantizationSpec, tensor_shape: tuple[int, ...] = ()) -> Self:
        """Make the quantizer of a spec, its fixed range set if it has one; its outputs are plain tensors."""
        quantizer = cls(spec.scale_shape(tensor_shape), spec.qmin, spec.qmax, spec.symmetric)
        quantizer.returns_encoding = False
        if spec.fixed_range is not None:
            quantizer.encoding_analyzer.update_stats(
                torch.stack([torch.full(quantizer.shape, bound) for bound in spec.fixed_range])
            )
            quantizer.set_range_from_stats()
            quantizer.encoding_analyzer.reset_stats()
            quantizer.allow_overwrite(False)
        return quantizer

    @classmethod
    def from_encodings(cls, encodings: AffineEncoding) -> Self:
        if not isinstance(encodings, cls.encoding_class):
            raise TypeError(f"Expected {cls.encoding_class}; got {type(encodings)}.")
        quantizer = cls._on_grid_of(encodings)
        quantizer.to(encodings.scale.device)
        quantizer.set_range(encodings.min, encodings.max)
        return quantizer

    @classmethod
    def _on_grid_of(cls, encoding: Any) -> Self:
        """Make a quantizer with the shape and grid of an encoding, and no range yet."""
        return cls(
            tuple(encoding.scale.shape),
            encoding.qmin,
            encoding.qmax,
            encoding.symmetry,
            block_size=encoding.block_size,
            zero_point_shift=encoding.zero_point_shift,
        )

    def set_range(self, min: torch.Tensor | float | None, max: torch.Tensor | float | None) -> None:
        """Write the range, each end of shape ``shape`` or a number; None leaves that end as it is.

        Raises:
            QuantizerError: If an end has another shape, or only one is given and there is no other yet.
        """
        if min is not None or max is not None:
            with torch.no_grad():
                self._parametrization.set_range(self, min, max)

    def set_range_from_stats(self) -> None:
        minimum, maximum = self.encoding_analyzer.compute_encodings(self._num_steps(), self.symmetric)
        warn_of_extremes(self.encoding_analyzer.observed_range)
        allows = self._overwrite_allowed
        self.set_range(
            minimum.expand(self.shape) if allows["min"] else None,
            maximum.expand(self.shape) if allows["max"] else None,
        )

    def get_scale(self, dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Return the scale, of shape ``shape``, float32 by default; None before calibration."""
        return self._scale_and_offset(dtype)[0] if self.is_initialized() else None

    def get_offset(self, dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Return the offset (minus the zero point), of shape ``shape``; None before calibration."""
        return self._scale_and_offset(dtype)[1] if self.is_initialized() else None

    def get_min(self, dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Return the real value of the lowest code; None before calibration.

        It can differ from ``min`` by less than a step: an offset is a whole number.
        """
        return self._bound(self.qmin, dtype)

    def get_max(self, dtype: torch.dtype | None = None) -> torch.Tensor | None:
        """Return the real value of the highest code; None before calibration."""
        return self._bound(self.qmax, dtype)

    def get_encodings(self) -> AffineEncoding | None:
        return self._encoding(*self._scale_and_offset()) if self.is_initialized() else None

    def set_legacy_encodings(self, encodings: list[dict[str, Any]]) -> None:
        """Take grid and range from the entries of an encodings file of version 0.6.1.

        A symmetric encoding makes the grid signed, any other unsigned. Where min and max say what scale and
        offset say, but for their last bits, the quantizer gets that scale and offset; otherwise min and max.
        """
        values = affine_from_dict(encodings, self.shape)
        symmetric, bits = bool(values["symmetry"]), int(encodings[0]["bitwidth"])
        self.qmin, self.qmax = integer_grid(bits, signed=symmetric)
        self.symmetric = symmetric
        self.zero_point_shift = as_shift(values["zero_point_shift"])
        given = (torch.tensor([entry[end] for entry in encodings]) for end in ("min", "max"))
        ends = tuple(end.reshape(self.shape) for end in given)
        exact = functional.range_of(
            values["scale"], values["offset"] + values["qmin"] - self.qmin, self.qmin, self.qmax
        )
        is_same = all(torch.allclose(a, b, rtol=_ROUNDED, atol=0.0) for a, b in zip(exact, ends, strict=True))
        self.set_range(*(exact if is_same else ends))

    @property
    def symmetric(self) -> bool:
        """Whether zero lies in the middle of the grid."""
        return self._symmetric

    @symmetric.setter
    def symmetric(self, symmetric: bool) -> None:
        self._parametrization.set_symmetric(self, symmetric)
        self._symmetric = symmetric

    def extra_repr(self) -> str:
        block_size = f", block_size={self.block_size}" if self.block_size else ""
        shift = f", zero_point_shift={self.zero_point_shift}" if self.zero_point_shift else ""
        grid = f"qmin={self.qmin}, qmax={self.qmax}, symmetric={self.symmetric}"
        return f"shape={self.shape}{block_size}, {grid}{shift}"

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the state dict needs beside the range: the grid, and which ends are set."""
        state: Any = super().get_extra_state()
        if not isinstance(state, dict):
            return state  # type: ignore[no-any-return]  # an export asks
        grid = {name: getattr(self, name) for name in _GRID} | {"block_size": self.block_size or ()}
        return state | {name: torch.tensor(value) for name, value in grid.items()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the grid from a state dict, and mark the ends of the range it says are not set."""
        for name in ("qmin", "qmax"):
            setattr(self, name, int(state.get(name, getattr(self, name))))
        if "symmetric" in state:
            self.symmetric = bool(state["symmetric"])
        before = self.shape, self.block_size
        if "block_size" in state:
            self.block_size = as_block_size(tuple(torch.as_tensor(state["block_size"]).tolist()))
        self.zero_point_shift = float(state.get("zero_point_shift", self.zero_point_shift))
        self.shape = tuple(self._parametrization.shape(self))
        if before != (self.shape, self.block_size):
            self.encoding_analyzer.resize(self.shape, self.block_size)
        super().set_extra_state(state)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state dict; with ``strict=False`` the range may have another shape than before."""
        if not strict:
            self._parametrization.reshape(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_derived": None}

    def _shift_grid(self, shift: int) -> None:
        super()._shift_grid(shift)
        self._parametrization.shift_grid(self, shift)

    def __getattr__(self, name: str) -> Any:
        holder = holder_of(self, name)
        if holder is not None:
            raise AttributeError(
                f"'{type(self).__qualname__}' object has no attribute '{name}' because it's parametrized "
                f"with {holder}. To get '{name}' of this quantizer, use get_{name}(); to change its range, "
                "set_range()."
            )
        return super().__getattr__(name)

    def _reparametrize_to_scale_offset(self) -> None:
        SCALE_OFFSET.take_over(self)

    def _reparametrize_to_min_max(self) -> None:
        MIN_MAX.take_over(self)

    def _scale_and_offset(self, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return self._parametrization.scale_and_offset(self, dtype or torch.float32)

    def _bound(self, code: int, dtype: torch.dtype | None) -> torch.Tensor | None:
        if not self.is_initialized():
            return None
        scale, offset = self._scale_and_offset(dtype)
        return scale * (offset + code + self.zero_point_shift)

    def _num_steps(self) -> int:
        """Return the steps that a range covers: one less than the grid has where it is shifted."""
        return self.qmax - self.qmin - (1 if self.zero_point_shift else 0)

    def _encoding_for(self, input: torch.Tensor) -> EncodingBase:
        """Return the encoding to use for an input.

        A quantizer in a graph derives it once while its range, one number each, does not change: a third of
        the time of a call on a small tensor.
        """
        if torch.is_grad_enabled() or self.shape or self.returns_encoding or torch.compiler.is_compiling():
            return super()._encoding_for(input)
        numbers = [p for p in self._parameters.values() if p is not None]
        if self._pristine or is_jit_traced() or input.device.type != "cpu":
            return super()._encoding_for(input)
        state = (*(p.item() for p in numbers), self.qmin, self.qmax, self._symmetric, self.zero_point_shift)
        if self._derived is None or self._derived[0] != state:
            self._derived = state, super()._encoding_for(input)
        return self._derived[1]

    def _encoding(self, scale: torch.Tensor, offset: torch.Tensor) -> AffineEncoding:
        return AffineEncoding.on_grid_of(self, scale, offset)

    def _encoding_of_nothing(self) -> AffineEncoding:
        device = next(self.parameters()).device
        encoding = self._encoding(torch.ones((), device=device), torch.zeros((), device=device))
        encoding.block_size = None
        return encoding

    def _dynamic_encoding(self, statistics: Any) -> AffineEncoding:
        ends = self.encoding_analyzer.compute_encodings_from_stats(
            statistics, self._num_steps(), self.symmetric
        )
        device = next(self.parameters()).device
        minimum, maximum = (end.float().to(device).expand(self.shape) for end in ends)
        return self._encoding(
            *functional.scale_and_offset(minimum, maximum, self.qmin, self.qmax, self.symmetric)
        )
