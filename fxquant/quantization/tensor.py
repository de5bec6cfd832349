"""QuantizedTensor and DequantizedTensor: tensors that carry the encoding they were quantized with.

What becomes of the encoding in a torch function is the table of ``tensor_functions``; where it says nothing,
the result is a plain torch.Tensor.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization.base.encoding import EncodingBase
from fxquant.quantization.tensor_functions import CASTS, COPIES, KEEPS, MOVES, SCALES

_UNTOUCHED = COPIES | torch.overrides.get_default_nowrap_functions()


class EncodingError(QuantizerError):
    """A tensor has lost its encoding, or never had one."""


class QuantizedTensorBase(torch.Tensor):
    """A tensor that carries its encoding: its codes, or the real values of its codes.

    It can go from one form to the other and back without loss. Copies, pickles and casts to other float types
    keep the encoding; so do views and reorderings where one scale serves the whole tensor.

    Attributes:
        encoding: The encoding; None once an op has made it meaningless.

    Raises:
        QuantizerError: If it is made of integers.
    """

    encoding: EncodingBase | None = None

    def __new__(cls, *args: Any, encoding: EncodingBase | None = None, **kwargs: Any) -> Self:
        """Make a tensor of float data, as torch.Tensor does, with an encoding."""
        tensor = super().__new__(cls, *args, **kwargs)
        if not tensor.is_floating_point():
            raise QuantizerError(
                f"Non-floating point dtype `{tensor.dtype}` is not allowed for quantized tensors."
            )
        tensor.encoding = encoding
        return tensor

    @classmethod
    def carrying(cls, tensor: torch.Tensor, encoding: EncodingBase | None) -> Self:
        """Return a plain float tensor as one that carries an encoding; they share memory."""
        carrier = tensor.as_subclass(cls)
        carrier.encoding = encoding
        return carrier

    @abstractmethod
    def quantize(self) -> "QuantizedTensor":
        """Return the codes; itself if it holds them already.

        Raises:
            EncodingError: If there is no encoding.
        """

    @abstractmethod
    def dequantize(self) -> "DequantizedTensor":
        """Return the real values; itself if it holds them already.

        Raises:
            EncodingError: If there is no encoding.
        """

    def quantized_repr(self) -> torch.Tensor:
        """Return the codes as a plain tensor of the encoding's integer type, which carries no gradient.

        Raises:
            EncodingError: If there is no encoding.
        """
        encoding = self._present_encoding()
        return self.quantize().as_subclass(torch.Tensor).to(encoding.dtype)

    def new_empty(self, *size: Any, **kwargs: Any) -> "QuantizedTensorBase":
        """Return an uninitialised tensor of the same class, without an encoding; deepcopy needs it."""
        plain = self.as_subclass(torch.Tensor).new_empty(*size, **kwargs)
        return type(self).carrying(plain, None)

    def _present_encoding(self) -> EncodingBase:
        if self.encoding is None:
            raise EncodingError(
                "Encoding does not exist.", remedy="Quantize the tensor again after the op that lost it."
            )
        return self.encoding

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            values = (*args, *kwargs.values())
            carriers = [value for value in values if isinstance(value, QuantizedTensorBase)]
            versions = [version_of(carrier) for carrier in carriers]
            result = func(*args, **kwargs)
            written = [c for c, version in zip(carriers, versions, strict=True) if version_of(c) != version]
        if torch.compiler.is_compiling() or func in _UNTOUCHED:
            return result
        for carrier in written:
            if func not in MOVES or not _has_one_scale(carrier):
                carrier.encoding = None
        if any(carrier is result for carrier in carriers):
            return result
        first = args[0] if args else kwargs.get("input")
        if func in SCALES:
            return _scaled(func, first, args[1] if len(args) > 1 else kwargs.get("other"), kwargs, result)
        if func is F.embedding:
            return _picked(args, kwargs, result)
        return _followed(func, first, result) if isinstance(first, QuantizedTensorBase) else _plain(result)


class QuantizedTensor(QuantizedTensorBase):
    """Codes, as whole numbers in a float tensor, and the encoding that gives their real values."""

    def quantize(self) -> "QuantizedTensor":
        return self

    def dequantize(self) -> "DequantizedTensor":
        encoding = self._present_encoding()
        return DequantizedTensor.carrying(encoding.dequantize(self.as_subclass(torch.Tensor)), encoding)


class DequantizedTensor(QuantizedTensorBase):
    """Real values on a grid, and the encoding that gives their codes."""

    def quantize(self) -> QuantizedTensor:
        encoding = self._present_encoding()
        return QuantizedTensor.carrying(encoding.quantize(self.as_subclass(torch.Tensor)), encoding)

    def dequantize(self) -> "DequantizedTensor":
        return self


def version_of(tensor: torch.Tensor) -> int:
    """Return how often a tensor was written in place; those of inference mode do not count it."""
    return 0 if tensor.is_inference() else tensor._version


def _has_one_scale(carrier: QuantizedTensorBase) -> bool:
    return carrier.encoding is not None and carrier.encoding.granularity == "pertensor"


def _plain(result: Any) -> Any:
    """Return a result whose tensors are plain."""
    return tree_map_only(QuantizedTensorBase, lambda tensor: tensor.as_subclass(torch.Tensor), result)


def _followed(func: Callable[..., Any], carrier: QuantizedTensorBase, result: Any) -> Any:
    """Return a result whose tensors carry what the table leaves of the first argument's encoding."""
    encoding = carrier.encoding
    if func in (torch.Tensor.clone, torch.clone):
        encoding = encoding and encoding.map_tensors(torch.clone)
    elif func in (torch.Tensor.detach, torch.detach):
        encoding = encoding and encoding.map_tensors(torch.Tensor.detach)
    elif func in CASTS:
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return _plain(result)
        encoding = encoding and encoding.to(device=result.device)
    elif func in MOVES:
        encoding = encoding if _has_one_scale(carrier) else None
    elif func not in KEEPS:
        return _plain(result)

    def carrying(tensor: torch.Tensor) -> torch.Tensor:
        own = encoding and encoding.map_tensors(lambda value: value)
        return type(carrier).carrying(tensor, own) if tensor.is_floating_point() else tensor

    return tree_map_only(torch.Tensor, carrying, result)


def _scaled(func: Callable[..., Any], first: Any, second: Any, kwargs: Mapping[str, Any], result: Any) -> Any:
    """Return the product or quotient of real values and a number, on the grid scaled by it."""
    carrier, number = first, second
    if not isinstance(carrier, QuantizedTensorBase) and SCALES[func]:
        carrier, number = number, carrier
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    rounds = kwargs.get("rounding_mode") is not None
    if not isinstance(carrier, DequantizedTensor) or carrier.encoding is None or not is_number or rounds:
        return _plain(result)
    if number == 0 or not math.isfinite(number):
        return _plain(result)
    encoding = carrier.encoding.scaled(number if SCALES[func] else 1 / number)
    return _plain(result) if encoding is None else DequantizedTensor.carrying(result, encoding)


def _picked(args: Sequence[Any], kwargs: Mapping[str, Any], result: torch.Tensor) -> torch.Tensor:
    """Return rows of a table with the scales that serve them."""
    index, table = args[:2] if len(args) > 1 else (args[0], kwargs["weight"])
    if not isinstance(table, QuantizedTensorBase) or table.encoding is None:
        return result
    plain = (tensor.as_subclass(torch.Tensor) for tensor in (index, result))
    index, result = plain
    return type(table).carrying(result, table.encoding.rows(table.shape, index))
