"""ParameterCache: a parameter is quantized once while it does not change."""

import functools
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.autograd import forward_ad

from fxquant.quantization import QuantizerBase
from fxquant.quantization.gradients import is_jit_traced, is_watched
from fxquant.quantization.tensor import version_of


@dataclass(frozen=True)
class _Entry:
    state: tuple[Any, ...]
    value: torch.Tensor | None  # None for codes that were read once only


_SMALL = 4096  # elements: up to here one product costs less than two
_ROW = 512  # words of eight bytes


class ParameterCache:
    """Quantized parameters of one module, and the real values of those stored as codes, kept in inference.

    Real values of codes are kept from the second call on: one forward needs no memory for them. Copies and
    files leave all of it out. A write is noticed by its version; one by ``.data``, which does not
    count, by a weighted sum of elements: that costs a sixth of quantizing them, a fiftieth of reading codes.
    On other devices than the CPU, where reading a sum would wait for the device, parameters are quantized
    each time.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def quantized(self, name: str, parameter: torch.Tensor, quantizer: nn.Module) -> torch.Tensor:
        """Return what the quantizer makes of a parameter."""
        is_traced = torch.compiler.is_compiling() or is_jit_traced() or is_watched()
        if is_traced or not isinstance(quantizer, QuantizerBase) or quantizer.is_observing:
            return cast(torch.Tensor, quantizer(parameter))
        numbers = _numbers(quantizer)
        needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (parameter, *numbers))
        is_cached = parameter.device.type == "cpu" and not needs_gradient and not _is_transformed()
        if not is_cached:
            self._entries.pop(name, None)
            return cast(torch.Tensor, quantizer(parameter))
        state = (
            id(quantizer),
            quantizer.extra_repr(),
            parameter.data_ptr(),
            parameter.dtype,
            *(_fingerprint(tensor) for tensor in (parameter, *numbers)),
        )
        entry = self._entries.get(name)
        is_same = entry is not None and entry.state == state
        held = entry.value if entry is not None and is_same else None
        if held is not None and (torch.is_inference_mode_enabled() or not held.is_inference()):
            return held
        value = cast(torch.Tensor, quantizer(parameter))
        is_kept = is_same or not quantizer.reads_codes
        self._entries[name] = _Entry(state, value if is_kept else None)
        return value

    def clear(self) -> None:
        """Keep nothing: the parameters go elsewhere."""
        self._entries.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_entries": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> "ParameterCache":
        return ParameterCache()


def _is_transformed() -> bool:
    """Whether functorch, or forward-mode differentiation, sees more in a tensor than its elements."""
    return bool(torch._C._functorch.peek_interpreter_stack()) or forward_ad._current_level >= 0


def _numbers(quantizer: nn.Module) -> list[torch.Tensor]:
    """Return the tensors that a quantizer holds; ten times as fast as torch, if it holds no modules."""
    if quantizer._modules:
        return [*quantizer.parameters(), *quantizer.buffers()]
    held = (*quantizer._parameters.values(), *quantizer._buffers.values())
    return [tensor for tensor in held if tensor is not None]


def _fingerprint(tensor: torch.Tensor) -> tuple[int, float]:
    """Return the version of a tensor, and a weighted sum of its elements, which tells their order too."""
    version = version_of(tensor)
    size = tensor.numel()
    if not tensor.is_floating_point():
        return version, _sum_of_words(tensor.detach())
    if size < 2:
        return version, tensor.item() if size else 0.0
    plain = tensor.detach()
    if type(plain) is not torch.Tensor or plain.dtype is not torch.float32:
        plain = plain.as_subclass(torch.Tensor).float()
    if size <= _SMALL:
        return version, torch.dot(plain.reshape(-1), _weights(size, 0)).item()
    matrix = plain.reshape(plain.shape[0] if plain.dim() > 1 else 1, -1)
    rows, columns = _weights(matrix.shape[0], 0), _weights(matrix.shape[1], 1)
    return version, torch.dot(matrix @ columns, rows).item()


def _sum_of_words(codes: torch.Tensor) -> int:
    """Return the sum of the words of eight bytes that codes fill, each with its own weight, modulo 2^64."""
    flat = codes.reshape(-1)
    per_word = 8 // flat.itemsize
    size = flat.numel() // per_word
    words = flat[: size * per_word].view(torch.int64)
    rows = size // _ROW
    sums = words[: rows * _ROW].view(rows, _ROW) @ _odd_numbers(_ROW, 0)
    last = torch.cat([words[rows * _ROW :], flat[size * per_word :].long()])
    total = torch.dot(sums, _odd_numbers(rows, 1)) + torch.dot(last, _odd_numbers(len(last), 2))
    return int(total.item())


@functools.lru_cache(maxsize=256)
def _odd_numbers(length: int, seed: int) -> torch.Tensor:
    """Return odd integers of 64 bits, the same each time: a word times one of them is 0 for no word but 0."""
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(-(2**62), 2**62, (length,), generator=generator) * 2 + 1


@functools.lru_cache(maxsize=256)
def _weights(length: int, seed: int) -> torch.Tensor:
    """Return numbers between 1 and 2, the same each time."""
    with torch.inference_mode(False):
        return torch.rand(length, generator=torch.Generator().manual_seed(seed)) + 1
