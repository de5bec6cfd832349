"""QuantizerState: what a TensorQuantizer knows (its options, its range) and how that changes and is kept."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fxquant.compat.pytorch_quantization._descriptor import Axis, NumBits, QuantDescriptor
from fxquant.compat.pytorch_quantization.nn.modules._bridge import given_of
from fxquant.errors import QuantizerError
from fxquant.quantization.given import Given, GivenQuantizer

Value = float | npt.NDArray[Any] | torch.Tensor
"""What an amax or a scale can be set to."""

_E4M3_MAX = 448.0
_BUFFERS = "_amax", "_pre_quant_scale"  # there once they are known: checkpoints hold no others

log = logging.getLogger(__name__)


class QuantizerState(GivenQuantizer):
    """The options of a quantizer, and the buffers ``_amax`` and ``_pre_quant_scale`` once they are known.

    Args:
        quant_desc: How to quantize.
    """

    _amax: torch.Tensor
    _pre_quant_scale: torch.Tensor

    def __init__(self, quant_desc: QuantDescriptor) -> None:
        super().__init__()
        self._num_bits = quant_desc.num_bits
        self._fake_quant = quant_desc.fake_quant
        self._axis = quant_desc.axis
        self._scale_amax = quant_desc.scale_amax
        self._learn_amax = quant_desc.learn_amax
        self._unsigned = quant_desc.unsigned
        self._narrow_range = quant_desc.narrow_range
        self._scale: float | torch.Tensor = 1.0
        if quant_desc.amax is not None:
            self.register_buffer("_amax", torch.tensor(quant_desc.amax))

    @property
    def num_bits(self) -> NumBits:
        """Bits of a code, or (4, 3) for 8-bit floats E4M3."""
        return self._num_bits

    @num_bits.setter
    def num_bits(self, value: NumBits) -> None:
        self._num_bits = value

    @property
    def unsigned(self) -> bool:
        """Whether codes start at 0."""
        return self._unsigned

    @unsigned.setter
    def unsigned(self, value: bool) -> None:
        self._unsigned = value

    @property
    def narrow_range(self) -> bool:
        """Whether the lowest signed code, which has no opposite, goes unused in fake quantization."""
        return self._narrow_range

    @narrow_range.setter
    def narrow_range(self, value: bool) -> None:
        self._narrow_range = value

    @property
    def axis(self) -> Axis:
        """Axes that keep an amax of their own; None for one amax."""
        return self._axis

    @property
    def fake_quant(self) -> bool:
        """Whether quantizing gives real values, not codes."""
        return self._fake_quant

    @property
    def learns_amax(self) -> bool:
        """Whether amax is trained."""
        return self._learn_amax

    @property
    def amax(self) -> torch.Tensor | None:
        """Largest magnitude represented; None while it is found in each tensor anew.

        It can be set to a number or an array, of the shape it has if it is known already.
        """
        return getattr(self, "_amax", None)

    @amax.setter
    def amax(self, value: Value) -> None:
        self._set_buffer("_amax", value)

    @property
    def pre_quant_scale(self) -> torch.Tensor | None:
        """Factor on inputs before anything else; None for none. It can be set as amax can."""
        return getattr(self, "_pre_quant_scale", None)

    @pre_quant_scale.setter
    def pre_quant_scale(self, value: Value) -> None:
        self._set_buffer("_pre_quant_scale", value)

    @property
    def maxbound(self) -> float:
        """The number that amax becomes: the highest code, or 448 for E4M3."""
        return _E4M3_MAX if isinstance(self._num_bits, tuple) else self._bound()

    @property
    def scale(self) -> float | torch.Tensor:
        """NVIDIA's scale, bound / amax, of the codes returned last; fake quantization has none."""
        if self._fake_quant:
            log.error("Fake quantization doesn't use scale explicitly!")
        return self._scale

    @property
    def step_size(self) -> torch.Tensor | None:
        """Distance of two neighbours on the grid; None while amax is unknown."""
        if self.amax is None:
            log.error("step_size is undefined while amax is dynamic.")
            return None
        return self.amax / self._bound()

    def given(self, path: str) -> Given | str:
        """Return what ``fxquant.prepare`` takes over of it; see ``GivenQuantizer``."""
        return given_of(self, path)

    def _bound(self) -> int:
        """Return the highest code.

        Raises:
            QuantizerError: If the numbers are floats.
        """
        if isinstance(self._num_bits, tuple):
            raise QuantizerError("E4M3 numbers are no integer codes.", remedy="Give num_bits as an integer.")
        return int(2 ** (self._num_bits - 1 + int(self._unsigned)) - 1)

    def _set_buffer(self, name: str, value: Value | None) -> None:
        label = name.removeprefix("_")
        if value is None:
            log.error("Setting %s to None is meaningless.", label)
            return
        if isinstance(value, torch.Tensor):
            log.warning("The setter of %s is not meant for tensors: it copies the values alone.", label)
        new = torch.as_tensor(value).detach()
        if new.dtype == torch.float64 and not isinstance(value, (torch.Tensor, np.ndarray)):
            new = new.float()
        old = getattr(self, name, None)
        if old is None:
            self.register_buffer(name, new.clone())
            return
        if new.shape != old.shape:
            raise QuantizerError(
                f"Changing shape when setting {label} is not allowed: "
                f"from {tuple(old.shape)} to {tuple(new.shape)}.",
                remedy=f"Delete {name} first.",
            )
        with torch.no_grad():
            old.copy_(new)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Make room for what the checkpoint knows and the module does not, on the module's own device."""
        known = next(iter([*self.parameters(), *self.buffers()]), None)
        for name in _BUFFERS:
            found = state_dict.get(prefix + name)
            if found is not None and getattr(self, name, None) is None:
                device = found.device if known is None else known.device
                self.register_buffer(name, torch.empty_like(found, device=device))
            elif found is None and getattr(self, name, None) is not None:
                log.warning("%s: no %s in the checkpoint.", prefix[:-1], name)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
