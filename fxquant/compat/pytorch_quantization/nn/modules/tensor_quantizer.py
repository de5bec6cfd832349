"""TensorQuantizer: the module that quantizes a tensor, or watches it to find its range."""

import logging
import math
from typing import Any, ClassVar

import torch

from fxquant.compat.pytorch_quantization import calib
from fxquant.compat.pytorch_quantization.nn.modules._onnx_form import check_readiness, put_nodes
from fxquant.compat.pytorch_quantization.nn.modules._quantizer_state import QuantizerState
from fxquant.compat.pytorch_quantization.nn.modules.clip import Clip
from fxquant.compat.pytorch_quantization.tensor_quant import (
    QuantDescriptor,
    fake_tensor_quant,
    scaled_e4m3,
    tensor_quant,
)
from fxquant.compat.pytorch_quantization.utils.reduce_amax import kept_amax
from fxquant.errors import OptionError, OptionTypeError, QuantizerError

_CALIBRATORS: dict[str, type[calib.calibrator._Calibrator]] = {
    "max": calib.MaxCalibrator,
    "histogram": calib.HistogramCalibrator,
}

log = logging.getLogger(__name__)


class TensorQuantizer(QuantizerState):
    """Quantizes a tensor as a descriptor says, with the amax given, calibrated, trained or found in it.

    Args:
        quant_desc: How to quantize.
        disabled: Whether the module returns what it is given.
        if_quant: Whether it quantizes.
        if_clip: Whether it clips to the learned range.
        if_calib: Whether it shows tensors to its calibrator.
    """

    use_fb_fake_quant: ClassVar[bool] = False
    """Whether every quantizer uses torch's own fake quantization, as releases before 2.2 could."""
    _enable_onnx_export: ClassVar[bool] = False

    def __init__(
        self,
        quant_desc: QuantDescriptor = QuantDescriptor(),  # noqa: B008  # it never changes
        disabled: bool = False,
        if_quant: bool = True,
        if_clip: bool = False,
        if_calib: bool = False,
    ) -> None:
        super().__init__(quant_desc)
        self._disabled = disabled
        self._if_quant = if_quant
        self._if_clip = False
        self._if_calib = if_calib
        if self._learn_amax:
            init = 1.0 if quant_desc.amax is None else quant_desc.amax
            self.clip = Clip(-init, init, learn_min=True, learn_max=True)
            self.enable_clip()
        if if_clip:
            self.enable_clip()
        make = _CALIBRATORS.get(quant_desc.calib_method)
        self._calibrator = None if make is None else make(self._num_bits, self._axis, self._unsigned)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs, times pre_quant_scale, and clipped or quantized where that is enabled.

        Raises:
            QuantizerError: If it is to calibrate without calibrator, or to clip without a learned range.
            ExportError: If the model is exported to ONNX, and this quantizer is not ready.
        """
        if torch.onnx.is_in_onnx_export() and not self._disabled and (self._if_quant or self._if_calib):
            is_narrow = self._narrow_range and not TensorQuantizer.use_fb_fake_quant
            check_readiness(self, inputs, calibrates=self._if_calib, is_narrow=is_narrow)
        if self.pre_quant_scale is not None:
            inputs = inputs * self.pre_quant_scale
        if self._disabled:
            return inputs
        outputs = inputs
        if self._if_calib:
            if self._calibrator is None:
                raise QuantizerError("Calibrator was not created.", remedy="Use a known calib_method.")
            self._calibrator.collect(inputs)
        if self._if_clip:
            if not self._learn_amax:
                raise QuantizerError("Clip without learning amax is not implemented.")
            outputs = self.clip(inputs)
        if self._if_quant:
            outputs = self._quant_forward(inputs)
        return outputs

    def disable(self) -> None:
        """Return from now on what is given, times pre_quant_scale."""
        self._disabled = True

    def enable(self) -> None:
        """Undo ``disable``."""
        self._disabled = False

    def disable_clip(self) -> None:
        """Stop clipping to the learned range; quantization still does."""
        self._if_clip = False

    def enable_clip(self) -> None:
        """Clip to the learned range.

        Raises:
            OptionError: If amax is not learned.
        """
        if not self._learn_amax:
            raise OptionError("Clip cannot be enabled if learn_amax is False.")
        self._if_clip = True

    def disable_calib(self) -> None:
        """Stop showing tensors to the calibrator."""
        self._if_calib = False

    def enable_calib(self) -> None:
        """Show tensors to the calibrator.

        Raises:
            OptionError: If there is none.
        """
        if self._calibrator is None:
            raise OptionError("Calibrator was not created, cannot enable calibration.")
        self._if_calib = True

    def disable_quant(self) -> None:
        """Stop quantizing."""
        self._if_quant = False

    def enable_quant(self) -> None:
        """Quantize."""
        self._if_quant = True

    def load_calib_amax(self, *args: Any, strict: bool = True, **kwargs: Any) -> None:
        """Take amax from the calibrator.

        Args:
            *args: For the calibrator's ``compute_amax``.
            strict: Whether a calibrator that has seen nothing is an error; else amax becomes NaN.
            **kwargs: For ``compute_amax``.

        Raises:
            QuantizerError: If there is no calibrator, or it has seen nothing.
        """
        if self._calibrator is None:
            raise QuantizerError("Calibrator was not created.", remedy="Use a known calib_method.")
        amax = self._calibrator.compute_amax(*args, **kwargs)
        if amax is None:
            what = "Calibrator returned None. This usually happens when it hasn't seen any tensor."
            if strict:
                raise QuantizerError(what, remedy="Pass strict=False to set amax to NaN instead.")
            log.warning("%s amax is set to NaN.", what)
            amax = torch.tensor(math.nan)
        known = self.amax
        if known is None:
            self.register_buffer("_amax", amax.detach().clone())
        else:
            known.detach().copy_(amax)

    def init_learn_amax(self) -> None:
        """Start the learned range from amax, the largest of them where there are several.

        Raises:
            QuantizerError: If amax is not learned, or not known.
        """
        if not self._learn_amax:
            raise QuantizerError("Called init_learn_amax with learn_amax=False.")
        if self.amax is None:
            raise QuantizerError("amax is not known.", remedy="Calibrate, and call load_calib_amax().")
        amax = self.amax.detach().max()
        if self.amax.numel() != 1:
            log.warning("The largest of the %d amax starts the learned range.", self.amax.numel())
        self.clip.clip_value_min.detach().copy_(-amax)
        self.clip.clip_value_max.detach().copy_(amax)

    def extra_repr(self) -> str:
        if self._disabled:
            return "disabled"
        words = {
            "unsigned": self._unsigned,
            f"{self._num_bits}bit": True,
            "narrow": self._narrow_range,
            "fake": self._fake_quant,
            "per-tensor" if self._axis is None else f"axis={self._axis}": True,
            f"amax={self._short_amax()}": True,
            f"*{self._scale_amax}": self._scale_amax,
            "pre_quant_scale": self.pre_quant_scale is not None,
            "learned": self._learn_amax,
            f"calibrator={type(self._calibrator).__name__}": self._calibrator is not None,
            f"scale={self._scale if isinstance(self._scale, float) else _short(self._scale)}": True,
            "quant": self._if_quant,
            "clip": self._if_clip,
            "calib": self._if_calib,
        }
        return " ".join(word for word, is_said in words.items() if is_said)

    def _short_amax(self) -> str:
        return "dynamic" if self.amax is None else _short(self.amax)

    def _quant_forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs quantized; where fake quantization, torch's own and an export part."""
        if self._learn_amax:
            inputs = self.clip(inputs)
            amax = torch.maximum(-self.clip.clip_value_min, self.clip.clip_value_max).detach()
        else:
            amax = self._get_amax(inputs)
        if torch.onnx.is_in_onnx_export():
            return put_nodes(self, inputs, amax)
        if isinstance(self._num_bits, tuple):
            return scaled_e4m3(inputs, amax, *self._num_bits)
        if not self._fake_quant:  # always a narrow range, as in NVIDIA's
            codes, self._scale = tensor_quant(inputs, amax, self._num_bits, self._unsigned)
            return codes
        if TensorQuantizer.use_fb_fake_quant:
            return self._fb_fake_quant(inputs, amax)
        return fake_tensor_quant(inputs, amax, self._num_bits, self._unsigned, self._narrow_range)

    def _get_amax(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the amax known, else that of the inputs, times scale_amax, in float32 or float64."""
        known = self.amax
        amax = kept_amax(inputs, self._axis) if known is None else known
        amax = amax.detach()
        if self._scale_amax is not None:
            amax = amax * self._scale_amax
        if amax.dtype not in (torch.float32, torch.float64):
            amax = amax.float()
        return amax if amax.device == inputs.device else amax.to(inputs.device)

    def _fb_fake_quant(self, inputs: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
        """Return torch's own fake quantization, at scale = amax / bound over the full range of codes."""
        if torch.float16 in (inputs.dtype, amax.dtype):
            raise QuantizerError(
                "use_fb_fake_quant does not take float16.",
                remedy="Run the model in float32, without autocast.",
            )
        bound = self._bound()
        low = 0 if self._unsigned else -bound - 1
        if amax.numel() == 1:
            scale = amax.reshape(1) / bound
            return torch.fake_quantize_per_tensor_affine(
                inputs, scale, torch.zeros_like(scale, dtype=torch.int32), low, bound
            )
        axes = [axis for axis, size in enumerate(amax.shape) if size > 1]
        if len(axes) > 1:
            raise OptionTypeError("use_fb_fake_quant takes one axis that keeps its own amax, not several.")
        scale = amax.reshape(-1) / bound
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(inputs, scale, zeros, axes[0], low, bound)


def _short(values: torch.Tensor) -> str:
    """Return one number as it is, or the smallest and the largest of several and how many there are."""
    if values.is_meta:
        return f"?({values.numel()})"
    if values.numel() == 1:
        return f"{values.item():.4f}"
    return f"[{values.min().item():.4f}, {values.max().item():.4f}]({values.numel()})"
