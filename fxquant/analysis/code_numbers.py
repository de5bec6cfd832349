"""code_numbers: codes as whole numbers whose differences are steps, also those of a float type."""

import numpy as np
import torch

from fxquant.quantization import AffineEncoding, EncodingBase

_SIGN = 0x80


def code_numbers(encoding: EncodingBase, tensor: torch.Tensor) -> np.ndarray:
    """Return the codes of a real tensor as int64; those of a float type are counted from zero."""
    if isinstance(encoding, AffineEncoding):
        return np.asarray(encoding.quantize(tensor).to(torch.int64).cpu().numpy())
    return _counted(encoding.to_codes(tensor).cpu().view(torch.uint8).numpy())


def numbers_of_runtime(encoding: EncodingBase, codes: np.ndarray) -> np.ndarray:
    """Return a runtime's codes as ``code_numbers`` does; float8 codes come as the bytes they are."""
    return codes.astype(np.int64) if isinstance(encoding, AffineEncoding) else _counted(codes)


def real_values(encoding: EncodingBase, codes: np.ndarray) -> torch.Tensor:
    """Return the real values of a runtime's codes."""
    if isinstance(encoding, AffineEncoding):
        return encoding.dequantize(torch.from_numpy(codes.astype(np.int64)).to(encoding.scale.device))
    held = torch.from_numpy(codes).view(encoding.dtype).to(encoding.scale.device)
    return encoding.dequantize(held)


def _counted(codes: np.ndarray) -> np.ndarray:
    """Return sign and magnitude as a whole number: a float's bits order its magnitudes."""
    magnitude = (codes & ~np.uint8(_SIGN)).astype(np.int64)
    return np.asarray(np.where(codes & _SIGN, -magnitude, magnitude))
