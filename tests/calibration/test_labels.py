import pytest
import torch
from torch import nn

import fxquant
from fxquant.calibration import batch_call
from fxquant.calibration.labels import Positions, without_labels
from fxquant.errors import BatchError

POSITIONS = Positions(names=("image", "mask", "targets"), needed=1, defaults={"mask": None, "targets": None})
LABEL = torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        pytest.param(("image",), 1, id="what is needed"),
        pytest.param(("image", None), 2, id="default of an optional input"),
        pytest.param(("image", None, LABEL), 2, id="input called like a label"),
        pytest.param(("image", None, None, LABEL), 3, id="one more than inputs"),
        pytest.param(("image", None, None, 1, LABEL), 5, id="two more, which do not fit"),
    ],
)
def test_rule_by_position(values, kept):
    assert POSITIONS.without_label(values, None) == values[:kept]


@pytest.mark.parametrize(
    "last", [LABEL, torch.rand(2, 3), 7, "cat"], ids=["classes", "floats", "number", "text"]
)
def test_last_value_that_may_be_an_optional_input_is_refused(last):
    with pytest.raises(
        BatchError, match=r"optional input 'mask': it is not known which.* image, mask, targets"
    ):
        POSITIONS.without_label(("image", last), None)


@pytest.mark.parametrize(("has_label", "kept"), [(True, 1), (False, 2)])
def test_user_may_say_whether_there_is_a_label(has_label, kept):
    assert len(POSITIONS.without_label(("image", LABEL), has_label)) == kept


def test_names_of_labels_are_dropped_unless_needed():
    values = {"image": 1, "labels": 2, "target": 3}
    assert without_labels(values, {"image", "target"}) == {"image": 1, "target": 3}


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images, targets=None):
        return self.conv(images) if targets is None else self.conv(images) * targets.sum()


class Masked(Detector):
    def forward(self, image, mask=None):
        return self.conv(image) if mask is None else self.conv(image) * mask


class Anything(Detector):
    def forward(self, *images):
        return self.conv(images[0])


IMAGES = torch.rand(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        pytest.param(Detector(), (IMAGES, LABEL), id="optional targets"),
        pytest.param(Detector(), {"images": IMAGES, "targets": LABEL}, id="optional targets by name"),
        pytest.param(Detector(), {"images": IMAGES, "label": LABEL}, id="label by name"),
        pytest.param(Anything(), (IMAGES,), id="any number of inputs"),
    ],
)
def test_example_of_a_float_model_has_no_label(model, batch):
    assert batch_call(model, batch).tensors() == [IMAGES]


@pytest.mark.parametrize("model", [Masked(), Anything()], ids=["optional", "any number"])
def test_quantize_never_feeds_a_label_to_an_optional_input(model):
    with pytest.raises(BatchError, match="it is not known which"):
        fxquant.quantize(model, [(IMAGES, LABEL)], target="onnxruntime")


def test_quantize_takes_the_word_of_the_user():
    data = [(IMAGES, LABEL)]
    labelled = fxquant.quantize(Masked(), fxquant.Batches(data, has_label=True), target="onnxruntime")
    assert [str(n.target) for n in labelled.model.graph.find_nodes(op="placeholder")] == ["image"]
    both = [(IMAGES, torch.rand(2, 4, 4, 4))]
    masked = fxquant.quantize(Masked(), fxquant.Batches(both, has_label=False), target="onnxruntime")
    assert [str(n.target) for n in masked.model.graph.find_nodes(op="placeholder")] == ["image", "mask"]
