"""Parametrizations: which two parameters of a quantizer hold its range, min and max or scale and offset."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from fxquant.errors import QuantizerError
from fxquant.quantization import functional

_Range = tuple[torch.Tensor, torch.Tensor]


@runtime_checkable
class MinMaxQuantizer(Protocol):
    """An affine quantizer whose range is its parameters min and max."""

    _is_min_max: Any


@runtime_checkable
class ScaleOffsetQuantizer(Protocol):
    """An affine quantizer whose range is its parameters scale and offset."""

    _is_scale_offset: Any


class Parametrization:
    """How a range is kept in two parameters; stateless, all numbers are in the quantizer."""

    names: tuple[str, str]
    mark: str  # attribute that the protocols look for

    def register(self, quantizer: Any) -> None:
        """Give a quantizer the parameters, not yet set."""
        raise NotImplementedError

    def scale_and_offset(self, quantizer: Any, dtype: torch.dtype) -> _Range:
        """Return scale and offset, differentiable in the parameters."""
        raise NotImplementedError

    def set_range(self, quantizer: Any, minimum: Any, maximum: Any) -> None:
        """Write the range; None leaves an end as it is."""
        raise NotImplementedError

    def set_scale_and_offset(self, quantizer: Any, scale: torch.Tensor, offset: torch.Tensor) -> None:
        """Write the range of a grid, as nearly as these parameters can say it."""
        raise NotImplementedError

    def set_symmetric(self, quantizer: Any, symmetric: bool) -> None:
        """Get ready for another symmetry."""

    def shift_grid(self, quantizer: Any, shift: int) -> None:
        """Keep the real range on a grid whose codes have all grown by ``shift``."""

    def shape(self, quantizer: Any) -> torch.Size:
        """Return the shape of the range."""
        parameter: torch.Tensor = quantizer._parameters[self.names[0]]
        return parameter.shape

    def reshape(self, quantizer: Any, state: Mapping[str, torch.Tensor]) -> None:
        """Give the parameters the shapes they have in a state dict.

        Raises:
            QuantizerError: If the state is of the other parametrization.
        """
        other = SCALE_OFFSET if self is MIN_MAX else MIN_MAX
        if any(name in state for name in other.names):
            raise QuantizerError(
                f"The state holds {'/'.join(other.names)}, the quantizer {'/'.join(self.names)}."
            )
        for name in set(self.names) & state.keys():
            own = quantizer._parameters[name]
            if own is None or own.shape != state[name].shape:
                like = own if own is not None else quantizer._parameters[self.names[0]]
                value = state[name].detach().clone().to(like.device, like.dtype)
                setattr(quantizer, name, nn.Parameter(value, requires_grad=like.requires_grad))

    def take_over(self, quantizer: Any) -> None:
        """Keep the range of a quantizer in these parameters from now on."""
        before: Parametrization = quantizer._parametrization
        if before is self:
            return
        is_set = quantizer.is_initialized()
        scale, offset = (value.detach() for value in before.scale_and_offset(quantizer, torch.float32))
        old = [quantizer._parameters.pop(name) for name in before.names]
        delattr(quantizer, before.mark)
        quantizer._pristine = {}
        quantizer._parametrization = self
        self.register(quantizer)
        quantizer.to(old[0].device)
        quantizer.requires_grad_(any(p is not None and p.requires_grad for p in old))
        if is_set:
            quantizer.set_range(scale * (offset + quantizer.qmin), scale * (offset + quantizer.qmax))


class _MinMax(Parametrization):
    names = ("min", "max")
    mark = "_is_min_max"

    def register(self, quantizer: Any) -> None:
        setattr(quantizer, self.mark, True)
        quantizer.register_quantization_parameter("min", nn.Parameter(-torch.ones(quantizer.shape)))
        quantizer.register_quantization_parameter("max", nn.Parameter(torch.ones(quantizer.shape)))

    def scale_and_offset(self, quantizer: Any, dtype: torch.dtype) -> _Range:
        parameters = quantizer._parameters  # by attribute they would cost more than the arithmetic
        return functional.scale_and_offset(
            functional.in_dtype(parameters["min"], dtype),
            functional.in_dtype(parameters["max"], dtype),
            quantizer.qmin,
            quantizer.qmax,
            quantizer._symmetric,
        )

    def set_range(self, quantizer: Any, minimum: Any, maximum: Any) -> None:
        for name, value in (("min", minimum), ("max", maximum)):
            if value is not None:
                _copy(quantizer, name, value)

    def set_scale_and_offset(self, quantizer: Any, scale: torch.Tensor, offset: torch.Tensor) -> None:
        ends = functional.range_of(scale, offset, quantizer.qmin, quantizer.qmax)
        self.set_range(quantizer, *ends)


class _ScaleOffset(Parametrization):
    names = ("scale", "offset")
    mark = "_is_scale_offset"

    def register(self, quantizer: Any) -> None:
        setattr(quantizer, self.mark, True)
        quantizer.register_quantization_parameter("scale", nn.Parameter(torch.ones(quantizer.shape)))
        offset = None if quantizer._symmetric else nn.Parameter(self._symmetric_offset(quantizer))
        quantizer.register_quantization_parameter("offset", offset)

    def scale_and_offset(self, quantizer: Any, dtype: torch.dtype) -> _Range:
        smallest = functional.smallest_scale(quantizer.qmax - quantizer.qmin)
        scale = quantizer.scale.abs().clamp_min(smallest).to(dtype)
        if quantizer._symmetric:
            return scale, self._symmetric_offset(quantizer).to(dtype)
        return scale, functional.round_straight_through(quantizer.offset).to(dtype)

    def set_range(self, quantizer: Any, minimum: Any, maximum: Any) -> None:
        minimum = quantizer.get_min() if minimum is None else minimum
        maximum = quantizer.get_max() if maximum is None else maximum
        if minimum is None or maximum is None:
            raise QuantizerError(
                "One end of a range is not enough for a quantizer parametrized with scale and offset.",
                remedy="Pass both min and max to set_range().",
            )
        device = quantizer.scale.device
        low = torch.as_tensor(minimum, dtype=torch.float32, device=device)
        high = torch.as_tensor(maximum, dtype=torch.float32, device=device)
        scale, offset = functional.scale_and_offset(
            low, high, quantizer.qmin, quantizer.qmax, quantizer._symmetric
        )
        self.set_scale_and_offset(quantizer, scale, offset)

    def set_scale_and_offset(self, quantizer: Any, scale: torch.Tensor, offset: torch.Tensor) -> None:
        _copy(quantizer, "scale", scale)
        if not quantizer._symmetric:
            _copy(quantizer, "offset", offset)

    def set_symmetric(self, quantizer: Any, symmetric: bool) -> None:
        if symmetric:
            quantizer.offset = None
        elif quantizer.offset is None:
            offset = self._symmetric_offset(quantizer)
            quantizer.offset = nn.Parameter(offset, requires_grad=quantizer.scale.requires_grad)

    def shift_grid(self, quantizer: Any, shift: int) -> None:
        if quantizer.offset is not None:
            with torch.no_grad():
                quantizer.offset.sub_(shift)

    def _symmetric_offset(self, quantizer: Any) -> torch.Tensor:
        value = functional.symmetric_offset(quantizer.qmin, quantizer.qmax)
        return torch.full_like(quantizer.scale.detach(), value)


def holder_of(quantizer: Any, name: str) -> str | None:
    """Return the names of the parameters in use, if ``name`` is one of those not in use; else None."""
    used = vars(quantizer).get("_parametrization")
    if used is None or name not in (*MIN_MAX.names, *SCALE_OFFSET.names) or name in used.names:
        return None
    return "/".join(used.names)


def _copy(quantizer: Any, name: str, value: Any) -> None:
    """Write a parameter in place, from then on set."""
    parameter = getattr(quantizer, name)
    tensor = torch.as_tensor(value)
    try:
        parameter.copy_(tensor.expand(parameter.shape))
    except RuntimeError as error:
        raise QuantizerError(
            f"A {name} of shape {tuple(tensor.shape)} does not fit a quantizer of shape {quantizer.shape}."
        ) from error
    quantizer._pristine.pop(name, None)


MIN_MAX: Parametrization = _MinMax()
SCALE_OFFSET: Parametrization = _ScaleOffset()
