import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fxquant
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


def test_optional_input_has_its_default_unless_example_inputs_give_it():
    without = fxquant.prepare(Optional(), target="onnxruntime")
    with_factor = fxquant.prepare(Optional(), (IMAGE, TEXT), target="onnxruntime")
    assert Signature(without).names == ["image"]
    assert Signature(with_factor).names == ["image", "factor"]
    assert torch.equal(without(IMAGE), IMAGE * 2.0)
    assert list(Signature(with_factor).bind(Example(args=(IMAGE, TEXT)))) == ["image", "factor"]


def test_branch_on_an_optional_input_follows_its_default():
    class Masked(nn.Module):
        def forward(self, image, mask=None, flag=False):
            image = image if mask is None else image * mask
            return image + 1 if flag else image

    assert torch.equal(fxquant.prepare(Masked(), target="onnxruntime")(IMAGE), IMAGE)


def test_data_loader_of_input_and_label_is_taken_as_it_is():
    loader = DataLoader(TensorDataset(torch.rand(5, 3), torch.arange(5)), batch_size=2)
    calls = list(calls_of(loader, Signature(capture(One()))))
    assert [tuple(example.args[0].shape) for example in calls] == [(2, 3), (2, 3), (1, 3)]


@pytest.mark.parametrize("batches", [IMAGE, {"image": IMAGE}], ids=["tensor", "dict"])
def test_single_batch_need_not_be_wrapped(batches):
    assert len(list(calls_of(batches, Signature(capture(One()))))) == 1
