"""QuantizerBase: what every quantizer module offers, learnable or frozen."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import nn
from typing_extensions import Self

from fxquant.quantization.encodings import AffineEncoding


class QuantizerBase(nn.Module):
    """A module that puts a tensor on a grid.

    Its numbers stay float32 at least: casting a model to a half type does not coarsen its encodings.
    """

    @abstractmethod
    def is_initialized(self) -> bool:
        """Whether the quantizer has a range, so that it can run."""

    @abstractmethod
    def get_encodings(self) -> AffineEncoding | None:
        """Return the encoding; None while there is no range."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        def keep_precision(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            is_coarser = result.is_floating_point() and result.dtype.itemsize < 4
            return tensor.to(result.device) if is_coarser else result

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]  # torch is untyped here
        return self
