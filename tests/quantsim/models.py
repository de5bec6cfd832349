"""Small models that simulations are tested on, and how to run a file that one exported."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A batch norm to fold, functional relu and pooling, a residual addition, cat."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        y = x + self.conv2(x)
        y = torch.cat([y, x.sigmoid()], dim=1)
        return self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Attention(nn.Module):
    """Ids, a second input read twice, layer norm, matmul, functional softmax, two outputs in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.layers = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.norm(self.embedding(ids) + x)
        q, k = self.layers[0](h), self.layers[1](h)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 4.0, dim=-1)
        return torch.cat([weights @ h, x, x], dim=-1), h.mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1])


def linears() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))


def run_onnx(path: Path, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return what onnxruntime computes, every graph optimization off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feeds)]


def tensors_of(path: Path) -> set[str]:
    """Return the names of all tensors of an ONNX file."""
    graph = onnx.load(path).graph
    made = {name for node in graph.node for name in node.output}
    return made | {value.name for value in (*graph.initializer, *graph.input)}
