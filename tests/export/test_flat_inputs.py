"""Containers among the inputs: every tensor is an input of the file, whatever the example looks like."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import fxquant


@dataclass
class Cache:
    keys: list
    count: int
    scale: float = 2.0


class TakesContainers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, cache, options):
        y = self.fc(x + cache.keys[0] * cache.count)
        return y + cache.keys[1] * cache.scale + options["first"][0] * options["weight"]


class TakesTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, pair):
        return self.query(pair["a"]) * self.key(pair["b"])


class TakesTwoPlain(TakesTwo):
    def forward(self, a, b):
        return self.query(a) * self.key(b)


def rows(features=4):
    return torch.randn(6, features)


def test_tensors_in_containers_and_objects_are_inputs_and_numbers_are_constants(tmp_path):
    def batch():
        return rows(), Cache([rows(), rows()], 3), {"first": [rows()], "weight": 0.5}

    quantized = fxquant.quantize(TakesContainers(), [batch()], target="onnxruntime").model
    files = fxquant.export(quantized, tmp_path)
    assert fxquant.verify(quantized, files, [batch(), batch()]).max_steps <= 1


@pytest.mark.parametrize(
    ("model", "same", "other"),
    [
        (TakesTwo(), lambda x: {"pair": {"a": x, "b": x}}, lambda: {"pair": {"a": rows(8), "b": rows(8)}}),
        (TakesTwoPlain(), lambda x: (x, x), lambda: (rows(8), rows(8))),
    ],
    ids=["in a container", "plain"],
)
def test_a_tensor_that_the_example_gives_twice_is_two_inputs(model, same, other, tmp_path):
    quantized = fxquant.quantize(model, [same(rows(8))], target="onnxruntime").model
    files = fxquant.export(quantized, tmp_path)
    assert fxquant.verify(quantized, files, [other()]).max_steps <= 1


def test_a_write_into_an_input_is_left_out_of_the_file(tmp_path):
    class FillsItsInput(TakesTwo):
        def forward(self, x, cache):
            cache[:, :8] = self.query(x)
            return self.key(cache[:, :8]) + x

    quantized = fxquant.quantize(FillsItsInput(), [(rows(8), torch.zeros(6, 9))], target="onnxruntime").model
    cache = torch.zeros(6, 9)
    quantized(rows(8), cache)
    assert cache[:, :8].abs().sum() > 0
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [(rows(8), torch.zeros(6, 9))])
    assert (len(report.outputs), report.max_steps <= 1) == (1, True)
