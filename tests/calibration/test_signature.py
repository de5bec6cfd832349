from collections import UserDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import fxquant
from fxquant.calibration import Signature
from fxquant.errors import BatchError
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


Pair = namedtuple("Pair", "image text")
Labelled = namedtuple("Labelled", "image label")
Other = namedtuple("Other", "x y")


@dataclass
class Record:
    image: object
    text: object = None
    label: object = None


@dataclass
class Stray:
    x: object


class Encoding(UserDict):
    """A dict of another class, such as the output of a tokenizer."""


@pytest.mark.parametrize(
    ("model", "batch", "names"),
    [
        pytest.param(Two(), Pair(TEXT, IMAGE), ["image", "text"], id="named tuple of inputs"),
        pytest.param(One(), Labelled(IMAGE, LABEL), ["image"], id="named tuple with label"),
        pytest.param(One(), Record(IMAGE, label=LABEL), ["image"], id="dataclass, absent input"),
        pytest.param(Two(), Record(IMAGE, TEXT, LABEL), ["image", "text"], id="dataclass with label"),
        pytest.param(
            Two(), Encoding(image=IMAGE, text=TEXT, labels=LABEL), ["image", "text"], id="user dict"
        ),
    ],
)
def test_batch_with_names_gives_inputs_by_name(model, batch, names):
    assert sorted(call(model, batch).kwargs) == names


@pytest.mark.slow
def test_output_of_a_tokenizer_gives_inputs_by_name():
    tokenization = pytest.importorskip("transformers.tokenization_utils_base")
    encoding = tokenization.BatchEncoding({"image": [[1, 2], [3, 4]], "labels": [0, 1]})
    kwargs = call(One(), encoding).kwargs
    assert list(kwargs) == ["image"]
    assert torch.equal(kwargs["image"], torch.tensor([[1, 2], [3, 4]]))


def test_named_tuple_of_other_names_gives_inputs_by_position():
    assert call(One(), Other(IMAGE, LABEL)).args == (IMAGE,)


def test_dataclass_that_is_the_only_input_stays_whole():
    record = Record(IMAGE, TEXT)
    assert call(One(), record).args == (record,)


def test_packed_sequence_is_one_value():
    packed = pack_sequence([torch.rand(3, 2), torch.rand(1, 2)])
    assert call(One(), packed).args == (packed,)


class Mapped(nn.Module):
    def forward(self, inputs):
        return inputs["image"] + 1


def test_arrays_in_a_dict_that_is_the_only_input_become_tensors():
    (inputs,) = call(Mapped(), {"image": IMAGE.numpy()}).args
    assert torch.equal(inputs["image"], IMAGE)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param(np.ones((2, 3)), torch.ones(2, 3), id="float64 array"),
        pytest.param(np.arange(6).reshape(2, 3), torch.arange(6).reshape(2, 3), id="integers"),
        pytest.param(np.ones((2, 3), np.uint8), torch.ones(2, 3, dtype=torch.uint8), id="bytes"),
        pytest.param(np.ones((2, 3), ">f4"), torch.ones(2, 3), id="other byte order"),
        pytest.param(np.arange(6.0)[::-1], torch.arange(5.0, -1, -1), id="backwards"),
        pytest.param(np.broadcast_to(np.float32(1), (2, 3)), torch.ones(2, 3), id="read-only"),
        pytest.param(np.float64(0.5), torch.tensor(0.5), id="numpy scalar"),
        pytest.param([[1, 2], [3, 4]], torch.tensor([[1, 2], [3, 4]]), id="lists"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_array_becomes_a_tensor_of_the_type_the_model_computes_in(value, wanted):
    (found,) = call(One(), (value,)).args
    assert torch.equal(found, wanted)
    assert found.dtype == wanted.dtype


def test_list_of_numbers_is_one_tensor():
    (found,) = call(One(), [[1.0, 2.0], [3.0, 4.0]]).args
    assert found.dtype == torch.float32
    assert found.shape == (2, 2)


def test_number_becomes_a_tensor_where_capture_saw_one():
    signature = Signature(fxquant.prepare(Optional(), (IMAGE, torch.tensor(3.0)), target="onnxruntime"))
    assert torch.equal(signature.call((IMAGE, 2)).args[1], torch.tensor(2.0))
    number = Signature(fxquant.prepare(Optional(), (IMAGE, 3.0), target="onnxruntime"))
    assert number.call((IMAGE, 2.0)).args[1] == 2.0


def test_array_has_the_type_of_a_half_model():
    model = nn.Linear(3, 2).half()
    (found,) = Signature(capture(model)).call(IMAGE.numpy()).args
    assert found.dtype == torch.float16


def test_tensor_keeps_the_type_the_user_gave_it():
    (found,) = call(nn.Linear(3, 2), IMAGE.double()).args
    assert found.dtype == torch.float64


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        pytest.param(np.array(["a"]), "has no numbers", id="texts"),
        pytest.param(np.array([object()]), "has no numbers", id="objects"),
        pytest.param([[1, 2], [3]], "lists of different lengths", id="ragged"),
        pytest.param((IMAGE, TEXT, LABEL), "does not fit the inputs: image", id="two too many"),
        pytest.param({"image": IMAGE, "mask": TEXT}, "no input named 'mask'", id="unknown name"),
    ],
)
def test_batch_that_does_not_fit_is_refused(batch, message):
    with pytest.raises(BatchError, match=message):
        call(One(), batch)


def test_dataclass_of_other_names_is_refused_where_there_are_several_inputs():
    with pytest.raises(BatchError, match="must be a tensor, a tuple or a dict, not Stray"):
        call(Two(), Stray(x=IMAGE))


class Flagged(nn.Module):
    def forward(self, image, negated=False):
        return -image if negated else image + 1


def test_label_is_never_fed_to_an_input_that_capture_fixed():
    signature = Signature(fxquant.prepare(Flagged(), (IMAGE, False), target="onnxruntime"))
    assert signature.names == ["image", "negated"]
    assert signature.call((IMAGE, False)).args == (IMAGE, False)
    assert signature.call((IMAGE, LABEL), has_label=True).args == (IMAGE,)
    with pytest.raises(BatchError, match=r"label or the optional input 'negated'.*has_label=True"):
        signature.call((IMAGE, LABEL))
