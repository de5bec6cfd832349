import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import (
    BatchError,
    CaptureError,
    ExportError,
    ModelTypeError,
    NonFiniteError,
    NotCalibratedError,
    OptionError,
)


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(Branches())

    def forward(self, x):
        return self.inner(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.act = nn.ReLU()
        self.head = nn.Linear(16, 16)

    def forward(self, x):
        return self.head(self.act(self.conv(x)).mean((2, 3)))


def images(rows=2):
    return torch.rand(rows, 3, 8, 8)


@pytest.mark.parametrize("given", [Net, Net().state_dict(), "resnet18"], ids=["class", "state dict", "name"])
def test_what_is_no_module_is_refused(given):
    with pytest.raises(ModelTypeError, match=r"must be a torch\.nn\.Module"):
        fxquant.prepare(given)


def test_control_flow_on_a_tensor_names_layer_and_line():
    with pytest.raises(CaptureError, match=r"layer 'inner\.0'") as error:
        fxquant.prepare(Outer())
    assert "if x.sum() > 0:" in str(error.value)


def test_convert_before_calibration_lists_the_layers():
    with pytest.raises(NotCalibratedError, match=r"'x'.*'conv'"):
        fxquant.convert(fxquant.prepare(Net()))


@pytest.mark.parametrize(
    "verb", [fxquant.convert, lambda m: fxquant.calibrate(m, [images()])], ids=["convert", "calibrate"]
)
def test_float_model_is_refused_where_a_prepared_one_is_due(verb):
    with pytest.raises(ModelTypeError, match=r"prepare\(model\)"):
        verb(Net())


def test_prepared_model_is_refused_by_export(tmp_path):
    with pytest.raises(ModelTypeError, match=r"convert\(prepared\)"):
        fxquant.export(fxquant.prepare(Net()), tmp_path)


@pytest.mark.parametrize("batches", [[], iter(()), (b for b in ())], ids=["list", "iterator", "generator"])
def test_data_without_batches_is_refused(batches):
    with pytest.raises(BatchError, match="no batch"):
        fxquant.calibrate(fxquant.prepare(Net()), batches)


def test_exhausted_generator_is_refused_and_named():
    data = (batch for batch in [images()])
    first, second = fxquant.prepare(Net()), fxquant.prepare(Net())
    fxquant.calibrate(first, data)
    with pytest.raises(BatchError, match="generator that was used up"):
        fxquant.calibrate(second, data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_value_in_the_data_names_the_input(value):
    batch = images()
    batch[0, 0, 0, 0] = value
    with pytest.raises(NonFiniteError, match=r"batch 1 .* tensor 'x'"):
        fxquant.calibrate(fxquant.prepare(Net()), [images(), batch])


def test_bad_value_from_a_layer_names_the_first_such_layer():
    model = Net()
    model.conv.bias.data[1] = float("inf")
    with pytest.raises(NonFiniteError, match="first in tensor 'conv'") as error:
        fxquant.calibrate(fxquant.prepare(model, target="onnxruntime"), [images()])
    assert error.value.layer == "conv"


def test_bad_weight_names_its_layer():
    model = Net()
    model.head.weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="weight of 'head'"):
        fxquant.calibrate(fxquant.prepare(model), [images()])


def test_failed_calibration_leaves_the_model_uncalibrated():
    prepared = fxquant.prepare(Net())
    with pytest.raises(BatchError):
        fxquant.calibrate(prepared, [images(), torch.rand(2, 5)])
    with pytest.raises(NotCalibratedError):
        fxquant.convert(prepared)


def test_batch_that_the_model_rejects_names_layer_and_shape():
    with pytest.raises(BatchError, match=r"batch 0 \(shapes \(2, 5, 8, 8\)\)") as error:
        fxquant.calibrate(fxquant.prepare(Net()), [torch.rand(2, 5, 8, 8)])
    assert error.value.layer == "conv"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        pytest.param({"image": images()}, "no input named 'image'", id="unknown key"),
        pytest.param({}, "does not fit", id="empty dict"),
        pytest.param((images(), 1, 2), "does not fit", id="too many values"),
        pytest.param("images", "must be a tensor, a tuple or a dict", id="string"),
    ],
)
def test_batch_of_the_wrong_form_is_refused(batch, message):
    with pytest.raises(BatchError, match=message):
        fxquant.calibrate(fxquant.prepare(Net()), [batch])


def test_prepared_model_is_refused_by_prepare():
    with pytest.raises(ModelTypeError, match="prepared or quantized already"):
        fxquant.prepare(fxquant.prepare(Net()))


class RefusesCopies(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("one of a kind")


def test_model_that_cannot_be_copied_is_refused():
    with pytest.raises(ModelTypeError, match="cannot be copied: one of a kind"):
        fxquant.prepare(RefusesCopies(2, 2))


def test_batches_that_cannot_be_iterated_are_refused():
    with pytest.raises(BatchError, match="must be an iterable"):
        fxquant.calibrate(fxquant.prepare(Net()), 3)


@pytest.mark.parametrize(
    ("call", "suggestion"),
    [
        pytest.param(lambda: fxquant.prepare(Net(), target="tensort"), "tensorrt", id="target"),
        pytest.param(lambda: fxquant.prepare(Net(), config="fold-batchnorm"), "fold-batch-norm", id="pass"),
        pytest.param(lambda: fxquant.prepare(Net(), config="assign-specs{tarjet=x}"), "target", id="option"),
        pytest.param(
            lambda: fxquant.calibrate(fxquant.prepare(Net()), [], method="min-max"), "minmax", id="method"
        ),
    ],
)
def test_unknown_name_suggests_the_nearest(call, suggestion):
    with pytest.raises(OptionError, match=f"Did you mean '{suggestion}'"):
        call()


def test_export_into_a_file_as_a_folder_fails_clearly(tmp_path):
    (tmp_path / "taken").write_text("")
    quantized = fxquant.quantize(Net(), [images()]).model
    with pytest.raises(ExportError, match="Cannot write"):
        fxquant.export(quantized, tmp_path / "taken" / "model.onnx")


def test_failed_export_leaves_the_previous_file(tmp_path, monkeypatch):
    quantized = fxquant.quantize(Net(), [images()]).model
    files = fxquant.export(quantized, tmp_path)
    before = files.onnx.read_bytes()
    full = lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))  # noqa: E731  # it only raises
    monkeypatch.setattr("onnx_ir.save", full)
    with pytest.raises(ExportError, match="disk full"):
        fxquant.export(quantized, tmp_path)
    assert files.onnx.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.encodings", "model.onnx"]


def test_max_drop_without_a_score_is_refused():
    with pytest.raises(OptionError, match="evaluate"):
        fxquant.quantize(Net(), [images()], max_drop=0.01)
