"""Stand-ins for another library's quantizers and layers, and a model of them."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.quantization.given import Given, GivenLayer, GivenQuantizer


class OwnQuantizer(GivenQuantizer):
    """A quantizer of another library: amax, bits, and switches."""

    def __init__(
        self,
        amax: float | torch.Tensor | None,
        *,
        bits: int = 8,
        signed: bool = True,
        is_on: bool = True,
        factor: torch.Tensor | None = None,
        refusal: str = "",
    ) -> None:
        super().__init__()
        self.register_buffer("amax", None if amax is None else torch.as_tensor(amax))
        self.bits, self.signed, self.is_on, self.factor, self.refusal = bits, signed, is_on, factor, refusal

    def given(self, path: str) -> Given | str:
        return self.refusal or Given(
            path=path,
            amax=self.amax,
            bitwidth=self.bits,
            signed=self.signed,
            is_on=self.is_on,
            factor=self.factor,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.factor is None else x * self.factor
        if not self.is_on:
            return x
        amax = x.detach().abs().amax() if self.amax is None else self.amax
        step = amax / ((1 << (self.bits - int(self.signed))) - 1)
        lowest = -(1 << (self.bits - 1)) if self.signed else 0
        return (x / step).round().clamp(lowest, (1 << (self.bits - int(self.signed))) - 1) * step


class OwnConv(nn.Conv2d, GivenLayer):
    """A convolution of another library, which quantizes its input and its weight."""

    def __init__(
        self, inputs: int, outputs: int, given: OwnQuantizer | None, weight: OwnQuantizer | None = None
    ) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        amax = self.weight.detach().abs().amax((1, 2, 3), keepdim=True) * 0.9
        self.own_input = given or OwnQuantizer(2.5)
        self.own_weight = weight or OwnQuantizer(amax)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.own_input(x), self.own_weight(self.weight), self.bias, padding=1)

    def float_layer(self) -> nn.Module | None:
        plain = nn.Conv2d.__new__(nn.Conv2d)
        plain.__dict__.update(self.__dict__)
        plain._modules, plain._parameters = {}, dict(self._parameters)
        return plain

    def given_quantizers(self) -> Mapping[str, GivenQuantizer]:
        return {"input": self.own_input, "weight": self.own_weight}


class OwnLinear(nn.Linear):
    """A user's own layer that calls quantizers in its forward."""

    def __init__(self, given: OwnQuantizer, weight: OwnQuantizer) -> None:
        super().__init__(8, 4)
        self.own_input, self.own_weight = given, weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.own_input(x), self.own_weight(self.weight), self.bias)


class OwnModel(nn.Module):
    """A layer of another library before a batch norm, a quantizer on a shortcut, a user's own layer."""

    def __init__(
        self, shortcut: OwnQuantizer, given: OwnQuantizer | None = None, weight: OwnQuantizer | None = None
    ) -> None:
        super().__init__()
        self.conv, self.norm = OwnConv(3, 8, given, weight), nn.BatchNorm2d(8)
        self.shortcut = shortcut
        self.fc = OwnLinear(OwnQuantizer(3.0), OwnQuantizer(0.25))
        torch.nn.init.uniform_(self.norm.weight, -2.0, 2.0)
        assert self.norm.running_var is not None
        self.norm.running_var.uniform_(0.5, 2.0)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x)))
        y = torch.sigmoid(y) + self.shortcut(y)
        return self.fc(y.mean((2, 3)))
