"""More modules whose forwards are easily captured wrongly: checks, lent parameters, classes."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.graph.forwards import ROWS, STEPS, Base, case


@case(ROWS)
class MultipliesByANumpyNumber(Base):
    def forward(self, x):
        return self.fc(x) * np.sqrt(4.0) + np.int64(3)


@case(ROWS, True, ROWS)
class TakesAFlagBeforeATensor(Base):
    def forward(self, x, flag, y):
        return self.fc(x + y if y.ndim == 2 and flag else x)


@case(ROWS)
class LendsParameters(Base):
    def forward(self, x):
        doubled = {name: value * 2 for name, value in self.out.named_parameters()}
        return torch.func.functional_call(self.out, doubled, (self.fc(x),))


class CompilesAMethod(Base):
    @torch.compile
    def inner(self, x):
        return self.fc(x).relu()

    def forward(self, x):
        return self.out(self.inner(x))


case(ROWS)(CompilesAMethod)


@case(ROWS)
class WritesIntoACopy(Base):
    def forward(self, x):
        y = self.fc(x)
        z = y.t().contiguous()
        z[0] = 0
        return y, z.t()


@case(ROWS)
class ChecksContents(Base):
    def forward(self, x):
        assert x.abs().max().item() <= 100
        torch._check((x < 1000).all().item(), lambda: "too large")
        torch._check_tensor_all(x.abs() < 1000)
        if x.isnan().any():
            raise ValueError("not a number")
        return self.out(self.fc(x))


@case(ROWS)
class ChecksTwoThings(Base):
    """Each half of the condition holds for some inputs, and then nothing is raised."""

    def forward(self, x):
        if x.max() > 0.5 and x.min() > 5:
            raise ValueError("too large")
        return self.fc(x)


@case(ROWS)
class TakesTheLargest(Base):
    def forward(self, x):
        return self.fc(x).topk(2).values * self.out(x).topk(2, dim=1, sorted=False)[0]


class HasAMethod(Base):
    def twice(self, x):
        return x * 2

    def forward(self, x):
        return self.fc(x)


@case(ROWS)
class AsksForClassesAndMethods(nn.Module):
    """A layer that stays whole, and asks what the layers are that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 8), HasAMethod()])

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        for part in self.parts:
            x = part(x) + 1 if isinstance(part, nn.Sequential) else part(x)
            x = part.twice(x) if hasattr(part, "twice") else x
        return x


@case(ROWS)
class MovesALayer(Base):
    def forward(self, x):
        self.fc = self.fc.to(x.dtype)
        return self.fc(x)


@case(ROWS)
class WorksOnlyUncompiled(Base):
    """Makes no mask where it believes that torch compiles, and then reads one."""

    def forward(self, x):
        mask = None if torch.compiler.is_compiling() else torch.ones_like(x)
        return self.fc(x) * mask.to(x.dtype)


@case(ROWS)
class ValidatesADistribution(Base):
    def forward(self, x):
        normal = torch.distributions.Normal(self.fc(x), self.out(x).exp())
        return normal.mean * normal.stddev


@case(ROWS)
class AddsRowsByContents(Base):
    """The sizes of what is picked depend on contents, those of the sum do not."""

    def forward(self, x):
        picked = (x[:, 0] > 0).nonzero()[:, 0]
        total = torch.zeros_like(x).index_add(0, picked, self.fc(x[picked]))
        return self.out(total) if total.shape[1] == 8 else total


@case(STEPS)
class PacksSequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x):
        lengths = torch.full((x.shape[0],), 4)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = self.rnn(packed)
        return self.out(pad_packed_sequence(output, batch_first=True, total_length=5)[0])
