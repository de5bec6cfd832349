"""What a TensorQuantizer becomes in an ONNX file, and what keeps it from becoming that.

With amax and b, the highest code (127, or 255 where unsigned; 448 for E4M3)::

    scale = amax / b        1 where amax is 0        zero point 0
    x_q   = saturate(round(x / scale))               x_dq = x_q * scale

The simulation multiplies by b / amax instead, in any form of export (``quantization.multiplier``); the two
differ by one step where the product and the quotient fall on different sides of the middle between two codes.
Where amax is 0 the simulation gives 0, the file the whole numbers.
"""

import warnings

import torch
from torch.jit._trace import TracerWarning

from fxquant.compat.pytorch_quantization.nn.modules._layer_names import layer_name
from fxquant.compat.pytorch_quantization.nn.modules._quantizer_state import QuantizerState
from fxquant.errors import ExportError
from fxquant.export.traced_nodes import TracedNodes

_CALIBRATE = "Calibrate it, and call load_calib_amax()."


def check_readiness(
    quantizer: QuantizerState, inputs: torch.Tensor, *, calibrates: bool, is_narrow: bool
) -> None:
    """Check that a quantizer has a form in ONNX.

    Args:
        quantizer: One that is to quantize, or to calibrate.
        inputs: What it quantizes. Of parameters it need not know amax: that is a constant all the same.
        calibrates: Whether it is calibrating.
        is_narrow: Whether its lowest code goes unused.

    Raises:
        ExportError: If it is calibrating, has no amax, returns codes, or has a grid that ONNX has no type of.
    """
    problem = _problem(quantizer, inputs, calibrates, is_narrow)
    if problem is not None:
        what, remedy = problem
        raise ExportError(what, layer=layer_name(quantizer), remedy=remedy)


def put_nodes(quantizer: QuantizerState, inputs: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    """Put QuantizeLinear and DequantizeLinear into the trace of an export, and return their result.

    Args:
        quantizer: One that is ready.
        inputs: What to quantize, float32, float16 or bfloat16.
        amax: Its largest magnitude: one, or one per channel in the number of dimensions of inputs.

    Raises:
        ExportError: If there are several amax where the form has one, or several axes with their own.
    """
    shape = _shape(amax)
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    scale = amax.detach().to(torch.float32) / quantizer.maxbound
    scale = scale.masked_fill(scale == 0, 1.0)
    is_float = isinstance(quantizer.num_bits, tuple)
    if len(axes) > (0 if is_float else 1):
        raise ExportError(
            f"{'E4M3 has' if is_float else 'Integers have'} no form in ONNX with an amax of shape {shape}.",
            layer=layer_name(quantizer),
            remedy=f"Use a QuantDescriptor with {'axis=None' if is_float else 'one axis'}.",
        )
    codes = torch.uint8 if quantizer.unsigned else torch.int8
    return TracedNodes(
        scale=scale.reshape(-1 if axes else ()),
        codes=torch.float8_e4m3fn if is_float else codes,
        axis=axes[0] if axes else None,
    ).put(inputs)


def _shape(amax: torch.Tensor) -> tuple[int, ...]:
    """Return a shape as numbers: TorchScript would have every size, though of a constant, in the trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return tuple(int(size) for size in amax.shape)


def _problem(
    quantizer: QuantizerState, inputs: torch.Tensor, calibrates: bool, is_narrow: bool
) -> tuple[str, str] | None:
    """Return what is in the way and what to do about it; None where nothing is."""
    bits = quantizer.num_bits
    if calibrates:
        return (
            "The quantizer is still calibrating.",
            "Call load_calib_amax(), disable_calib(), enable_quant().",
        )
    if not quantizer.fake_quant:
        return "The quantizer returns codes, which have no form in ONNX.", "Use fake_quant=True."
    if bits not in (8, (4, 3)):
        return f"Only num_bits=8 and (4, 3) have a form in ONNX, not num_bits={bits}.", "Use one of them."
    if is_narrow and bits == 8:
        return "ONNX has no narrow range: its int8 reaches down to -128.", "Use narrow_range=False."
    if quantizer.amax is None and not quantizer.learns_amax and not isinstance(inputs, torch.nn.Parameter):
        return "The quantizer has no amax, and would look for it in every input.", _CALIBRATE
    return None
