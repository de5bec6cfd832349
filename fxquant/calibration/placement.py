"""Placement: where a model's inputs have to be, and how floating numbers from numpy get there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fxquant.calibration.leaves import with_leaves
from fxquant.errors import BatchError

_NUMBERS = "biufc"  # kinds of numpy types: booleans, integers, floating and complex numbers


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a model takes its inputs.

    Attributes:
        device: The device of all its parameters; None where inputs stay where they are: the model has none,
            has them on several devices or on meta, or they are sharded over processes, so that somebody else
            moves inputs.
        floating: The type of its first floating parameter. Floating numpy arrays become that type, since
            numpy makes float64 of nearly everything and torch then refuses to mix it with float32 weights.
            Tensors keep the type the user gave them.
    """

    device: torch.device | None
    floating: torch.dtype

    def placed(self, value: Any) -> Any:
        """Return a value with its tensors on the device, and its arrays as tensors there.

        Copies from pinned memory to an accelerator do not block.

        Raises:
            BatchError: If an array holds anything but numbers.
        """
        return with_leaves(value, self._leaf)

    def number(self, value: Any, is_floating: bool = False) -> torch.Tensor:
        """Return a number, or nested lists of numbers, as a tensor.

        Args:
            value: The number or numbers.
            is_floating: Whether whole numbers become floating ones too.

        Raises:
            BatchError: If lists on one level differ in length.
        """
        try:
            array = np.asarray(value, np.float64 if is_floating else None)
        except ValueError as error:
            raise BatchError(
                "A batch holds lists of different lengths, which are no tensor.",
                remedy="Pad them to one length.",
            ) from error
        tensor: torch.Tensor = self._leaf(array)
        return tensor

    def _leaf(self, leaf: Any) -> Any:
        value: Any = self._tensor(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf
        device = value.data.device  # a packed sequence keeps its numbers there too
        if self.device is None or device == self.device or device.type == "meta":
            return value
        # towards the CPU a copy that does not block would be read before it is there
        return value.to(self.device, non_blocking=self.device.type != "cpu")

    def _tensor(self, array: np.ndarray[Any, Any] | np.generic) -> torch.Tensor:
        array = np.asarray(array)
        if array.dtype.kind not in _NUMBERS:
            raise BatchError(
                f"A batch holds an array of type '{array.dtype}', which has no numbers.",
                remedy="Yield what the model takes: texts have to be tokenized, objects stacked.",
            )
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()  # torch shares memory: not with what may not be written or runs backwards
        tensor = torch.from_numpy(array)
        return tensor.to(self.floating) if tensor.is_floating_point() else tensor


def holds_numbers(value: object) -> bool:
    """Whether something is nested lists that end in numbers; only the first of each is looked at."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    return isinstance(value, list) and isinstance(first, bool | int | float)


def placement_of(model: object) -> Placement:
    """Return where a model takes its inputs."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    state = [*parameters, *(model.buffers() if isinstance(model, nn.Module) else ())]
    devices = {tensor.device for tensor in parameters or state}
    is_elsewhere = any(hasattr(tensor, "device_mesh") or tensor.device.type == "meta" for tensor in state)
    return Placement(
        device=devices.pop() if len(devices) == 1 and not is_elsewhere else None, floating=_floating(state)
    )


def _floating(state: Iterable[torch.Tensor]) -> torch.dtype:
    """Return the first floating type that is computed in; types of one byte only store weights."""
    types = (tensor.dtype for tensor in state if tensor.is_floating_point() and tensor.dtype.itemsize > 1)
    return next(types, torch.get_default_dtype())
