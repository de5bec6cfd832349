"""QuantDescriptor: how a tensor is to be quantized."""

import logging
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from fxquant.errors import OptionError, OptionTypeError

NumBits = int | tuple[int, int]
"""Bits of an integer code, or (exponent bits, mantissa bits) of a float: (4, 3) is the only one."""
Axis = int | Sequence[int] | None
"""Axes that keep an amax of their own; None for one amax."""
Array = npt.NDArray[np.float32]

_E4M3 = 4, 3
_DEFAULTS = {
    "fake_quant": True,
    "axis": None,
    "amax": None,
    "learn_amax": False,
    "scale_amax": None,
    "calib_method": "max",
    "unsigned": False,
    "narrow_range": False,
}
_UNWRITTEN = {"calib_method", "narrow_range"}  # NVIDIA's dict() leaves them out, and so does its yaml

_Options = dict[str, Any]

log = logging.getLogger(__name__)


class ScaledQuantDescriptor:
    """How a tensor is to be quantized: by a scale that follows from its amax. It never changes.

    Args:
        num_bits: Bits of a code; 0 makes every number amax; (4, 3) for 8-bit floats E4M3.
        name: A name, for the reader.
        fake_quant: Whether quantizing gives real values, not codes.
        axis: Axes that keep an amax of their own, the opposite of numpy's; None for one amax.
        amax: Largest magnitude represented; None to find it in each tensor anew, or by calibration.
        learn_amax: Whether amax is trained.
        scale_amax: Factor on amax.
        calib_method: "max" or "histogram".
        unsigned: Whether codes start at 0.
        narrow_range: Whether the lowest signed code, which has no opposite, goes unused.

    Raises:
        OptionError: If num_bits is negative.
        OptionTypeError: If an argument has the wrong type or an unknown name, or amax is to be learned along
            an axis.
    """

    def __init__(self, num_bits: NumBits = 8, name: str | None = None, **kwargs: Any) -> None:
        unknown = sorted(kwargs.keys() - _DEFAULTS.keys())
        if unknown:
            raise OptionTypeError(f"Unused keys: {', '.join(unknown)}.")
        if not (name is None or isinstance(name, str)):
            raise OptionTypeError(f"name must be a string, not {type(name).__name__}.")
        options = {**_DEFAULTS, **kwargs}
        self._num_bits = _checked_bits(num_bits)
        self._name = name
        self._fake_quant: bool = options["fake_quant"]
        self._axis: Axis = options["axis"]
        self._learn_amax: bool = options["learn_amax"]
        self._amax = _checked_amax(options["amax"])
        self._scale_amax: float | None = options["scale_amax"]
        self._calib_method: str = options["calib_method"]
        self._unsigned: bool = options["unsigned"]
        self._narrow_range: bool = options["narrow_range"]
        if self._learn_amax and self._axis is not None:
            raise OptionTypeError("axis is ignored and must be None when learn_amax is true.")

    @property
    def num_bits(self) -> NumBits:
        """Bits of a code, or (4, 3)."""
        return self._num_bits

    @property
    def name(self) -> str | None:
        """The name given; None without one."""
        return self._name

    @property
    def fake_quant(self) -> bool:
        """Whether quantizing gives real values, not codes."""
        return self._fake_quant

    @property
    def axis(self) -> Axis:
        """Axes that keep an amax of their own; None for one amax."""
        return self._axis

    @property
    def amax(self) -> Array | None:
        """Largest magnitude represented, in float32; None if it is yet to be found."""
        return self._amax

    @property
    def learn_amax(self) -> bool:
        """Whether amax is trained."""
        return self._learn_amax

    @property
    def scale_amax(self) -> float | None:
        """Factor on amax; None for none."""
        return self._scale_amax

    @property
    def calib_method(self) -> str:
        """How amax is found: "max" or "histogram"."""
        return self._calib_method

    @property
    def unsigned(self) -> bool:
        """Whether codes start at 0."""
        return self._unsigned

    @property
    def narrow_range(self) -> bool:
        """Whether the lowest signed code goes unused."""
        return self._narrow_range

    def dict(self) -> _Options:
        """Return the arguments that differ from their defaults, but for calib_method and narrow_range."""
        fields: _Options = {"num_bits": 8, "name": None, **_DEFAULTS}
        values = {field: getattr(self, f"_{field}") for field in fields if field not in _UNWRITTEN}
        if self._amax is not None:
            values["amax"] = self._amax.tolist()
        return {field: value for field, value in values.items() if value != fields[field]}

    def to_yaml(self) -> str:
        """Return ``dict()`` as YAML, with lists for tuples."""
        values = {
            field: list(value) if isinstance(value, tuple) else value for field, value in self.dict().items()
        }
        text: str = yaml.safe_dump(values)
        return text

    @classmethod
    def from_yaml(cls, yaml_str: str) -> "ScaledQuantDescriptor":
        """Return the descriptor that ``to_yaml`` wrote.

        Raises:
            OptionError: If the text is not YAML, or no mapping.
        """
        try:
            values = yaml.safe_load(yaml_str)
        except yaml.YAMLError as error:
            raise OptionError(f"The descriptor is not YAML: {error}.") from error
        if not isinstance(values, dict):
            raise OptionError(f"The descriptor is no mapping of options: {yaml_str!r}.")
        for field in ("axis", "num_bits"):
            if isinstance(values.get(field), list):
                values[field] = tuple(values[field])
        return cls(**values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScaledQuantDescriptor):
            return NotImplemented
        mine, others = dict(vars(self)), dict(vars(other))
        amax, other_amax = mine.pop("_amax"), others.pop("_amax")
        if amax is None or other_amax is None:
            return mine == others and amax is other_amax
        return mine == others and np.array_equal(amax, other_amax)

    def __hash__(self) -> int:
        return hash((self._num_bits, self._name, self._unsigned, self._calib_method))

    def __str__(self) -> str:
        words = [
            f"({'unsigned ' if self._unsigned else ''}{self._num_bits}bit",
            "narrow" if self._narrow_range else "",
            "fake" if self._fake_quant else "real",
            "per-tensor" if self._axis is None else f"axis={self._axis}",
            f"amax={'dynamic' if self._amax is None else self._amax}",
            f"*{self._scale_amax}" if self._scale_amax else "",
            "learned" if self._learn_amax else "",
            f"calib_method={self._calib_method}",
        ]
        return " ".join(word for word in words if word) + ")"


QuantDescriptor = ScaledQuantDescriptor


def _checked_bits(num_bits: NumBits) -> NumBits:
    if isinstance(num_bits, tuple):
        if num_bits != _E4M3:
            raise OptionTypeError(f"num_bits as a tuple must be (4, 3), the float type E4M3; got {num_bits}.")
        return num_bits
    try:
        bits = operator.index(num_bits)
    except TypeError:
        raise OptionTypeError(f"num_bits must be an integer, or (4, 3) for E4M3; got {num_bits!r}.") from None
    if bits < 0:
        raise OptionError(f"num_bits must be >= 0, not {bits}.")
    if bits == 0:
        log.error("num_bits is 0: every number becomes amax. Use it for debugging only.")
    return bits


def _checked_amax(amax: object) -> Array | None:
    """Return amax as a float32 array, its own."""
    if amax is None:
        return None
    if isinstance(amax, bool) or not isinstance(amax, (int, float, list, np.ndarray, np.floating)):
        raise OptionTypeError(f"amax must be float, list or ndarray, not {type(amax).__name__}.")
    return np.array(amax, dtype=np.float32)
