"""The bridge to fxquant.prepare: what a TensorQuantizer does, as prepare takes it over."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from fxquant.quantization.given import Given, GivenLayer, GivenQuantizer

_FLOAT_BITS = 8  # E4M3
_HERE = __name__.rpartition(".")[0]


class BridgedLayer(GivenLayer):
    """A layer of this package, which is a layer of torch's but for its quantizers."""

    _modules: dict[str, nn.Module | None]
    _joins_hidden: ClassVar[bool] = False  # whether a quantizer sees what goes in and the hidden state as one

    def float_layer(self) -> nn.Module | None:
        forward_of = next(base for base in type(self).__mro__ if "forward" in vars(base))
        if not forward_of.__module__.startswith(_HERE):  # a user's subclass, which may do more
            return None
        theirs = next(base for base in type(self).__mro__ if base.__module__.startswith("torch.nn.modules."))
        plain: nn.Module = object.__new__(theirs)
        plain.__dict__.update(self.__dict__)
        plain._parameters, plain._buffers = dict(plain._parameters), dict(plain._buffers)
        plain._modules = {}
        return plain

    def given_quantizers(self) -> Mapping[str, GivenQuantizer]:
        found: dict[str, GivenQuantizer] = {}
        for kind, joint in (("input", "input and hidden state"), ("weight", "input and hidden weights")):
            single, several = (
                self._modules.get(f"_{kind}_quantizer"),
                self._modules.get(f"_{kind}_quantizers"),
            )
            if isinstance(single, GivenQuantizer):
                found[joint if self._joins_hidden else kind] = single
            for number, quantizer in enumerate(several.children() if several is not None else ()):
                if isinstance(quantizer, GivenQuantizer):
                    found[f"{joint}, {number}"] = quantizer
        return found


def given_of(quantizer: Any, path: str) -> Given | str:
    """Return what a TensorQuantizer at a path of a model does; or why no other quantizer can take its place.

    One that is being calibrated counts as switched on: its ``disable_quant`` belongs to the calibration.

    Args:
        quantizer: The TensorQuantizer.
        path: Its dotted path, or that of its layer.
    """
    is_float = isinstance(quantizer.num_bits, tuple)
    if not quantizer.fake_quant and not is_float:
        return "it returns codes (fake_quant=False)"
    if quantizer._if_clip and not quantizer._if_quant and not quantizer._disabled:
        return "it clips without quantizing"
    return Given(
        path=path,
        amax=_amax(quantizer),
        bitwidth=_FLOAT_BITS if is_float else quantizer.num_bits,
        signed=not quantizer.unsigned,
        is_integer=not is_float,
        is_on=not quantizer._disabled and (quantizer._if_quant or quantizer._if_calib),
        factor=quantizer.pre_quant_scale,
    )


def _amax(quantizer: Any) -> torch.Tensor | None:
    if quantizer._learn_amax:
        learned: torch.Tensor = torch.maximum(-quantizer.clip.clip_value_min, quantizer.clip.clip_value_max)
        return learned.detach()
    if quantizer.amax is None:
        return None
    amax: torch.Tensor = quantizer.amax.detach().float()
    return amax if quantizer._scale_amax is None else amax * quantizer._scale_amax
