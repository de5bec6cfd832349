"""Grids of integers: the two ways to write one, its bitwidth and its sign."""

from typing import Any

from fxquant.errors import OptionError, QuantizerError

MAX_BITWIDTH = 32


def integer_grid(bitwidth: int, signed: bool) -> tuple[int, int]:
    """Return (qmin, qmax): [-2^(b-1), 2^(b-1) - 1] if signed, [0, 2^b - 1] otherwise."""
    num_steps = 2**bitwidth - 1
    return (-(num_steps + 1) // 2, num_steps // 2) if signed else (0, num_steps)


class GridMixin:
    """Bitwidth and sign of an object with ``qmin`` and ``qmax``.

    Both are defined on the grids [-2^(b-1), 2^(b-1) - 1] and [0, 2^b - 1] only, for a whole b > 0.
    """

    qmin: int
    qmax: int

    @property
    def bitwidth(self) -> int:
        """Bits of one code. Setting it keeps the sign of the grid.

        Raises:
            QuantizerError: If it is undefined on the grid.
        """
        size = self.qmax - self.qmin + 1
        if not self._is_integer_type() or size & (size - 1):
            raise self._undefined("bitwidth")
        return size.bit_length() - 1

    @bitwidth.setter
    def bitwidth(self, bitwidth: int) -> None:
        if bitwidth != int(bitwidth):
            raise TypeError(f"A bitwidth of {bitwidth} is not a whole number; set qmin and qmax instead.")
        if bitwidth < 1:
            raise OptionError(f"Bitwidth can't be smaller than 1. Got {bitwidth}.")
        if not self._is_integer_type():
            raise self._undefined("bitwidth")
        self.qmin, self.qmax = integer_grid(int(bitwidth), self.signed)

    @property
    def signed(self) -> bool:
        """Whether codes can be negative. Setting it shifts the grid; the real range stays.

        Raises:
            QuantizerError: If it is undefined on the grid.
        """
        if not self._is_integer_type():
            raise self._undefined("signed")
        return self.qmin < 0

    @signed.setter
    def signed(self, signed: bool) -> None:
        if self.signed != signed:
            if (self.qmax - self.qmin) % 2 == 0:  # no half of an odd number of codes lies below zero
                raise self._undefined("signed")
            shift = -self.qmin if not signed else -(self.qmin + self.qmax + 1) // 2
            self._shift_grid(shift)

    def _shift_grid(self, shift: int) -> None:
        """Add to both ends of the grid; whoever holds an offset takes it from there."""
        self.qmin, self.qmax = self.qmin + shift, self.qmax + shift

    def _is_integer_type(self) -> bool:
        return self.qmin == 0 or self.qmin + self.qmax == -1

    def _undefined(self, name: str) -> QuantizerError:
        return QuantizerError(
            f"{type(self).__qualname__}.{name} is undefined in the quantization grid "
            f"[{self.qmin}, {self.qmax}].",
            remedy="Set qmin and qmax, or use a grid [-2**(b-1), 2**(b-1) - 1] or [0, 2**b - 1].",
        )


def bind(
    owner: str,
    forms: tuple[tuple[str, ...], ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    required: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return arguments by name, from the one of two positional forms that they are given in.

    Both forms begin with the grid: (qmin, qmax, ...) and (bitwidth, ...). The first is meant where a second
    positional argument is a number, or qmin or qmax are named. ``required`` names what else must be given.

    Raises:
        TypeError: If the arguments fit neither form; shows both.
    """
    pair, width = forms
    is_pair = "qmax" in kwargs or "qmin" in kwargs
    is_pair = is_pair or (len(args) > 1 and args[1] is not None and not isinstance(args[1], bool))
    names = pair if is_pair else width
    required = (*required, *(("qmin", "qmax") if is_pair else ("bitwidth",)))
    given = dict(zip(names, args, strict=False))
    unknown = ", ".join(kwargs.keys() - set(names))
    if unknown:
        raise TypeError(f"{owner}.__init__ got unexpected keyword argument: {unknown}")
    if len(args) > len(names) or given.keys() & kwargs.keys():
        raise _does_not_fit(forms, args, kwargs)
    values = {name: value for name, value in (given | kwargs).items() if value is not None}
    if any(name not in values for name in required):
        raise _does_not_fit(forms, args, kwargs)
    if is_pair and values["qmin"] >= values["qmax"]:
        raise OptionError(
            f"qmax should be strictly larger than qmin. Got qmax={values['qmax']}, qmin={values['qmin']}."
        )
    if not is_pair and not 1 <= values["bitwidth"] <= MAX_BITWIDTH:
        raise OptionError(f"A bitwidth of {values['bitwidth']} is not supported.", remedy="Choose 1 to 32.")
    return values


def _does_not_fit(
    forms: tuple[tuple[str, ...], ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> TypeError:
    expected = "\n".join(f"  * ({', '.join(form)})" for form in forms)
    return TypeError(f"Unexpected arguments. Expected one of:\n{expected}\nGot: {args} {kwargs}")
