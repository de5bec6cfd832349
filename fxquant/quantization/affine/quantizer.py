"""Affine quantizers with a learnable range: Quantize, QuantizeDequantize, Dequantize."""

import torch

from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import AffineEncoding
from fxquant.quantization.affine.quantizer_base import AffineQuantizerBase
from fxquant.quantization.tensor import QuantizedTensor


class Quantize(AffineQuantizerBase):
    """Puts a tensor on an affine grid and returns its codes, in the tensor's float type.

    Arguments, range and errors are those of ``AffineQuantizerBase``.

    Example:
        >>> import torch, fxquant.quantization as Q
        >>> quantizer = Q.affine.Quantize(shape=(), bitwidth=8, symmetric=True)
        >>> quantizer.set_range(-12.8, 12.7)
        >>> quantizer(torch.tensor([2.57, -2.312])).quantized_repr()
        tensor([ 26, -23], dtype=torch.int8)
    """

    has_codes = True

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return self._carrying(encoding.quantize(input), encoding, QuantizedTensor)


class QuantizeDequantize(AffineQuantizerBase):
    """Puts a tensor on an affine grid and returns the grid's real values.

    Arguments, range and errors are those of ``AffineQuantizerBase``.

    Example:
        >>> import fxquant.quantization as Q
        >>> Q.affine.QuantizeDequantize(shape=(), bitwidth=8, symmetric=False)
        QuantizeDequantize(shape=(), qmin=0, qmax=255, symmetric=False)
    """

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return self._carrying(encoding.quantize_dequantize(input), encoding)

    def overwrite(self, tensor: torch.Tensor) -> bool:
        encoding = self._plain_encoding(tensor)
        return encoding is not None and encoding.overwrite(tensor)

    def keeps(self, tensor: torch.Tensor) -> bool:
        encoding = self._plain_encoding(tensor)
        return encoding is not None and functional.is_idempotent(
            tensor.dtype, encoding.scale, encoding.qmin, encoding.qmax
        )

    def _plain_encoding(self, tensor: torch.Tensor) -> AffineEncoding | None:
        """Return the encoding that a call would use; None where it does more than quantize."""
        if self._observes or self.returns_encoding or not self.is_initialized():
            return None
        encoding = self._encoding_for(tensor)
        assert isinstance(encoding, AffineEncoding)
        return encoding


class Dequantize(AffineQuantizerBase):
    """Turns codes on an affine grid into real values.

    Arguments, range and errors are those of ``AffineQuantizerBase``.
    """

    has_codes = True
    takes_integers = True

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return self._carrying(encoding.dequantize(input), encoding)
