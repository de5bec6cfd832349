"""Modules whose forwards symbolic tracing cannot follow, or is easily led astray by; each with a call."""

import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ROWS = torch.linspace(-1.0, 1.0, 32).reshape(4, 8).sin()
STEPS = torch.linspace(-2.0, 2.0, 160).reshape(4, 5, 8).cos()
IMAGE = torch.linspace(-1.0, 1.0, 486).reshape(2, 3, 9, 9)

Call = tuple[tuple[Any, ...], dict[str, Any]]
CASES: dict[str, tuple[Callable[[], nn.Module], Call]] = {}


def case(*args: Any, **kwargs: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a class of modules with a call of it."""

    def register(module_class: type[nn.Module]) -> type[nn.Module]:
        CASES[module_class.__name__] = (module_class, (args, kwargs))
        return module_class

    return register


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(8, 8), nn.Linear(8, 8)


@case(ROWS)
class BranchesOnContents(Base):
    def forward(self, x):
        y = self.fc(x)
        if y.sum() > 0:
            return self.out(y)
        return self.out(-y) * 2


@case(ROWS)
class HoldsABranch(Base):
    def __init__(self) -> None:
        super().__init__()
        self.inner = BranchesOnContents()

    def forward(self, x):
        return self.out(self.inner(self.fc(x))) + 1


@case(ROWS)
class ScalesByItem(Base):
    def forward(self, x):
        return self.fc(x) * x.max().item()


@case(ROWS)
class GoesThroughNumpy(Base):
    def forward(self, x):
        return self.out(torch.from_numpy(np.sin(self.fc(x).detach().numpy())))


@case(STEPS)
class LoopsOverTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 6)

    def forward(self, x):
        state, states = x.new_zeros(x.shape[0], 6), []
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
            states.append(state)
        return torch.stack(states, 1)


@dataclasses.dataclass
class Pair:
    first: torch.Tensor
    others: list[Any]


@case(ROWS)
class GivesADataclass(Base):
    def forward(self, x):
        y = self.fc(x)
        return Pair(y, [y + 1, {"twice": y * 2}])


@case(Pair(ROWS, [ROWS * 2, 3]))
class TakesADataclass(Base):
    def forward(self, pair):
        return self.fc(pair.first) + pair.others[0] * pair.others[1]


@case({"image": ROWS, "more": [ROWS, (ROWS, 3)]}, flag=True)
class TakesContainers(Base):
    def forward(self, batch, flag=False):
        y = self.fc(batch["image"]) + batch["more"][0] * batch["more"][1][1]
        return {"y": y, "more": (y, batch["more"])} if flag else y


@case(ROWS, ROWS, ROWS, scale=2.0)
class TakesAnyNumber(Base):
    def forward(self, *tensors, **options):
        return self.fc(sum(tensors)) * options["scale"]


@case(ROWS)
class WritesBuffers(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x[:1].mean(0)
        return self.fc(x) + self.mean * self.calls


@case(ROWS)
class WritesInPlace(Base):
    def forward(self, x):
        y = self.fc(x)
        left = y[:, :4]
        left.add_(1)
        y[:, 4:] = 0.5
        y.relu_()
        y[y > 1] = 0.25
        return self.out(y) + left.sum(1, keepdim=True)


@case(ROWS)
class DrawsNoise(Base):
    def forward(self, x):
        return self.fc(x) + torch.randn_like(x) * 0.1


@case(ROWS)
class StopsGradients(Base):
    def forward(self, x):
        with torch.no_grad():
            y = self.fc(x)
        return self.out(y)


@case(ROWS)
class Asserts(Base):
    def forward(self, x):
        assert x.shape[1] == 8
        assert x.dim() == 2, "rows"
        y = self.fc(x)
        assert torch.isfinite(y).all()
        return self.out(y)


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@case(ROWS)
class CallsACustomFunction(Base):
    def forward(self, x):
        return self.out(_Rounding.apply(self.fc(x) * 8))


@torch.library.custom_op("fxquant_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x):
    return torch.empty_like(x)


@case(ROWS)
class CallsALibraryOp(Base):
    def forward(self, x):
        return self.out(twice(self.fc(x))) + torch.ops.fxquant_tests.twice(x)


@case(torch.complex(ROWS, -ROWS))
class ComputesWithComplexNumbers(nn.Module):
    def forward(self, x):
        return torch.fft.ifft(torch.fft.fft(x) * 2).real


@case(STEPS)
class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(self.attention(x, x, x)[0])


@case(STEPS)
class AttendsCausally(Base):
    def forward(self, x):
        q, k, v = (
            self.fc(x).unflatten(-1, (2, 4)).transpose(1, 2),
            x.unflatten(-1, (2, 4)).transpose(1, 2),
            None,
        )
        v = k * 2
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


@case(STEPS)
class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 6, batch_first=True, bidirectional=True), nn.Linear(12, 3)

    def forward(self, x):
        output, (state, _) = self.lstm(x)
        return self.fc(output), state.transpose(0, 1)


@case(STEPS)
class SumsByEinstein(nn.Module):
    def forward(self, x):
        return torch.einsum("bij,bkj->bik", x, x)


def normed() -> nn.Module:
    model = nn.Sequential(
        torch.nn.utils.weight_norm(nn.Linear(8, 8)),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
        torch.nn.utils.spectral_norm(nn.Linear(8, 8)),
    )
    model(ROWS)
    return model


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    model[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return model


def compiled() -> nn.Module:
    return torch.compile(nn.Sequential(torch.compile(nn.Linear(8, 8)), nn.ReLU()))


CASES["HasNorms"] = (normed, ((ROWS,), {}))
CASES["HasHooks"] = (hooked, ((ROWS,), {}))
CASES["IsCompiled"] = (compiled, ((ROWS,), {}))


@case(ROWS)
class LoopsOverTheBatch(Base):
    def __init__(self) -> None:
        super().__init__()
        self.inner = RowByRow()

    def forward(self, x):
        return self.out(self.inner(self.fc(x)))


class RowByRow(Base):
    def forward(self, x):
        return torch.stack([self.fc(x[row]) for row in range(x.shape[0])])


@case(ROWS)
class TiesWeights(Base):
    def __init__(self) -> None:
        super().__init__()
        self.out.weight = self.fc.weight

    def forward(self, x):
        return F.linear(self.out(self.fc(x)), self.fc.weight.t())


@case(ROWS)
class CallsALayerTwiceFromABranch(Base):
    def forward(self, x):
        if x.sum() > 100:
            x = x * 2
        y = self.fc(x)
        return y + self.fc(y)


@case(ROWS)
class HidesItsLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.shift = [nn.Linear(8, 8)], torch.ones(8)

    def forward(self, x):
        return self.layers[0](x) + self.shift + torch.tensor([0.5] * 8)


@case(STEPS)
class MapsAFunction(Base):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x):
        return self.out(torch.vmap(lambda row: row * self.scale)(self.fc(x)))


@case(IMAGE)
class ComputesSizes(nn.Module):
    def forward(self, x):
        height, width = x.shape[-2:]
        x = F.interpolate(x, size=(height * 2, int(width) * 2))
        x = F.pad(x, (0, (4 - width % 4) % 4, 0, math.ceil(height / 2)))
        return x.flatten(2).transpose(1, 2).reshape(x.shape[0], -1, 3) * height**-0.5 / math.sqrt(x.size(1))


@case(IMAGE)
class HidesASize(nn.Module):
    def forward(self, x):
        return x * (2.0 / x.shape[2])


@torch.jit.script
def gated(x):
    return x * torch.sigmoid(x)


@case(ROWS)
class CallsAScript(Base):
    def forward(self, x):
        return self.out(gated(self.fc(x)))


TRACED = torch.jit.trace(lambda x: x * torch.sigmoid(x), (ROWS,))


@case(ROWS)
class CallsATrace(Base):
    def forward(self, x):
        return self.out(TRACED(self.fc(x)))


class HidesACall(Base):
    """Computes where torch tells nobody, as extensions in C++ may."""

    def forward(self, x):
        with torch._C.DisableTorchFunction():
            hidden = torch.sigmoid(x)
        return self.out(self.fc(x) * hidden)


@case(ROWS)
class HoldsAHiddenCall(Base):
    def __init__(self) -> None:
        super().__init__()
        self.inner = HidesACall()

    def forward(self, x):
        return self.out(self.inner(self.fc(x)))


@case(ROWS)
class PicksByContents(Base):
    def forward(self, x):
        picked = (x[:, 0] > 0).nonzero()[:, 0]
        y = x.clone()
        y[picked] = self.fc(x[picked])
        return y


@case(ROWS)
class HoldsALock(Base):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.fc(x)


@case(ROWS)
class LeavesEarly(Base):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.last = nn.ModuleList(nn.Linear(8, 8) for _ in range(4)), 1

    def forward(self, x):
        for index, layer in enumerate(self.layers):
            x = layer(x).relu()
            if index == self.last:
                return x
        return x


class Cache:
    def __init__(self) -> None:
        self.keys: list[torch.Tensor] = []

    def update(self, key):
        self.keys.append(key)
        return torch.cat(self.keys, 1)


@case(STEPS)
class FillsACache(Base):
    def forward(self, x):
        cache = Cache()
        y = self.out(cache.update(self.fc(x)).mean(1))
        return y, cache
