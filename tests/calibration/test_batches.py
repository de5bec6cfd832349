import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fxquant.calibration import Signature, calls_of
from fxquant.graph import Example, capture


class One(nn.Module):
    def forward(self, image):
        return image + 1


class Two(nn.Module):
    def forward(self, image, text):
        return image + text


class Optional(nn.Module):
    def forward(self, image, factor=2.0):
        return image * factor


IMAGE, TEXT, LABEL = torch.rand(2, 3), torch.rand(2, 3), torch.tensor([0, 1])


def call(model, batch):
    return Signature(capture(model)).call(batch)


@pytest.mark.parametrize(
    ("model", "batch", "args", "kwargs"),
    [
        pytest.param(One(), IMAGE, (IMAGE,), {}, id="tensor"),
        pytest.param(One(), (IMAGE,), (IMAGE,), {}, id="tuple of one"),
        pytest.param(One(), [IMAGE, LABEL], (IMAGE,), {}, id="input and label"),
        pytest.param(Two(), (IMAGE, TEXT), (IMAGE, TEXT), {}, id="two inputs"),
        pytest.param(Two(), (IMAGE, TEXT, LABEL), (IMAGE, TEXT), {}, id="two inputs and label"),
        pytest.param(Two(), {"text": TEXT, "image": IMAGE}, (), {"text": TEXT, "image": IMAGE}, id="dict"),
        pytest.param(One(), {"image": IMAGE, "labels": LABEL}, (), {"image": IMAGE}, id="dict with label"),
        pytest.param(Optional(), IMAGE, (IMAGE,), {}, id="optional input left out"),
    ],
)
def test_batch_becomes_a_call(model, batch, args, kwargs):
    example = call(model, batch)
    assert [id(value) for value in example.args] == [id(value) for value in args]
    assert {name: id(value) for name, value in example.kwargs.items()} == {
        k: id(v) for k, v in kwargs.items()
    }


def test_bind_gives_every_input_in_order_with_defaults():
    signature = Signature(capture(Optional()))
    assert list(signature.bind(Example(args=(IMAGE,))).items()) == [("image", IMAGE), ("factor", 2.0)]


def test_data_loader_of_input_and_label_is_taken_as_it_is():
    loader = DataLoader(TensorDataset(torch.rand(5, 3), torch.arange(5)), batch_size=2)
    calls = list(calls_of(loader, Signature(capture(One()))))
    assert [tuple(example.args[0].shape) for example in calls] == [(2, 3), (2, 3), (1, 3)]


@pytest.mark.parametrize("batches", [IMAGE, {"image": IMAGE}], ids=["tensor", "dict"])
def test_single_batch_need_not_be_wrapped(batches):
    assert len(list(calls_of(batches, Signature(capture(One()))))) == 1
