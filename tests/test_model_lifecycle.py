import copy
import io
import pickle

import pytest
import torch

import fxquant
from tests import digits

IMAGES = digits.split().test_images[:16]
STAGES = [(stage, target) for stage in ("prepared", "quantized") for target in digits.TARGETS]
MAKERS = {"prepared": digits.prepared, "quantized": lambda target: copy.deepcopy(digits.quantized(target))}


def saved_and_loaded(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture(params=STAGES, ids="-".join)
def make(request):
    stage, target = request.param
    return lambda: MAKERS[stage](target)


@pytest.mark.parametrize("target", digits.TARGETS)
def test_float_model_is_untouched_by_all_verbs(target, tmp_path):
    model = copy.deepcopy(digits.float_model())
    before, output = copy.deepcopy(model.state_dict()), model(IMAGES)
    result = fxquant.quantize(model, digits.calibration_batches(), target=target)
    fxquant.export(result.model, tmp_path)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(IMAGES), output)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
def test_copy_gives_bit_equal_outputs(make, copied):
    model = make()
    assert torch.equal(copied(model)(IMAGES), model(IMAGES))


def test_state_dict_loads_into_a_fresh_model(make):
    model = make()
    fresh = copy.deepcopy(model)
    for value in fresh.state_dict().values():
        if isinstance(value, torch.Tensor):
            value.zero_()
    fresh.load_state_dict(saved_and_loaded(model.state_dict()))
    assert torch.equal(fresh(IMAGES), model(IMAGES))


def test_state_dict_calibrates_an_uncalibrated_model():
    model = digits.prepared("tensorrt")
    fresh = fxquant.prepare(digits.float_model(), target="tensorrt")
    fresh.load_state_dict(saved_and_loaded(model.state_dict()))
    assert torch.equal(fresh(IMAGES), model(IMAGES))
    assert torch.equal(fxquant.convert(fresh)(IMAGES), fxquant.convert(model)(IMAGES))


def test_double_and_back_changes_nothing(make):
    model = make()
    output = model(IMAGES)
    doubled = model.double()(IMAGES.double())
    assert doubled.dtype == torch.float64
    assert torch.equal(model.float()(IMAGES), output)


def test_compiled_model_agrees(make):
    model = make()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(IMAGES), model(IMAGES))


def test_unpickled_prepared_model_converts_exports_and_verifies(tmp_path):
    model = pickle.loads(pickle.dumps(digits.prepared("onnxruntime")))
    quantized = pickle.loads(pickle.dumps(fxquant.convert(model)))
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [IMAGES])
    assert [tensor.name for tensor in report.tensors] == [
        tensor.name for tensor in digits.parity("onnxruntime").tensors
    ]
    assert report.unmatched == ()


def test_prepared_model_trains():
    model = digits.prepared("tensorrt")
    labels = digits.split().test_labels[:16]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(model(IMAGES), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_prepared_model_is_not_modified_by_convert():
    model = digits.prepared("tensorrt")
    output = model(IMAGES)
    fxquant.convert(model)
    assert torch.equal(model(IMAGES), output)


@pytest.mark.parametrize("target", digits.TARGETS)
def test_quantizers_are_where_the_model_is(target):
    model = fxquant.prepare(copy.deepcopy(digits.float_model()).to("meta"), target=target)
    assert {tensor.device.type for tensor in model.state_dict().values() if hasattr(tensor, "device")} == {
        "meta"
    }


@pytest.mark.cuda
@pytest.mark.parametrize("target", digits.TARGETS)
def test_model_calibrates_and_runs_on_cuda(target):
    model = fxquant.prepare(copy.deepcopy(digits.float_model()).cuda(), target=target)
    fxquant.calibrate(model, [batch.cuda() for batch in digits.calibration_batches()])
    quantized = fxquant.convert(model)
    on_cpu = digits.quantized(target)(IMAGES)
    agreement = quantized(IMAGES.cuda()).argmax(1).cpu() == on_cpu.argmax(1)
    assert agreement.all()
    assert quantized.cpu()(IMAGES).device.type == "cpu"
