import copy
import platform

import pytest
import torch

import fxquant
from fxquant.storage import MappedMemory, shared_copies
from tests.storage.shards import chain, held, loaded, written

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="reads Linux's notes on pages")


def model_in(folder):
    return loaded(chain, written(chain(), folder))


def copied(model):
    return copy.deepcopy(model, shared_copies(model))


def test_a_copy_reads_nothing(tmp_path):
    model = model_in(tmp_path)
    other = copied(model)
    assert held(model) + held(other) == []
    assert torch.equal(model[0].weight, other[0].weight)


def test_neither_side_sees_what_is_written_into_the_other(tmp_path):
    model = model_in(tmp_path)
    other, before = copied(model), model[0].weight.detach().clone()
    with torch.no_grad():
        other[0].weight.add_(1.0)
        model[2].weight.zero_()
    assert torch.equal(model[0].weight, before)
    assert other[2].weight.abs().max() > 0


def test_what_was_written_is_copied(tmp_path):
    model = model_in(tmp_path)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    other = copied(model)
    assert torch.equal(other[0].weight, model[0].weight)
    assert MappedMemory().region_of(other[0].weight) is None


def test_a_file_that_is_another_one_by_now_is_not_mapped_again(tmp_path):
    model = model_in(tmp_path)
    (tmp_path / "other").mkdir()
    (written(chain(), tmp_path / "other") / "model-0.safetensors").replace(tmp_path / "model-0.safetensors")
    other = copied(model)
    assert torch.equal(other[0].weight, model[0].weight)
    assert MappedMemory().region_of(other[0].weight) is None


def test_parameters_stay_parameters_and_frozen_ones_frozen(tmp_path):
    model = model_in(tmp_path)
    model[0].weight.requires_grad_(False)
    other = copied(model)
    assert isinstance(other[0].weight, torch.nn.Parameter)
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("example", [None, torch.randn(2, 512)], ids=["traced", "recorded"])
def test_prepare_and_convert_hold_no_weights(tmp_path, example):
    model = model_in(tmp_path)
    prepared = fxquant.prepare(model, example, target="onnxruntime")
    assert held(model) + held(prepared) == []
    fxquant.calibrate(prepared, [torch.randn(2, 512)], offload=fxquant.Offload(block_bytes=1 << 20))
    assert held(prepared) == []
    fxquant.convert(prepared)
    assert held(model) + held(prepared) == []


def test_training_a_prepared_model_leaves_the_float_model_as_it_was(tmp_path):
    model, x = model_in(tmp_path), torch.randn(2, 512)
    before = model(x)
    prepared = fxquant.prepare(model, target="onnxruntime")
    fxquant.calibrate(prepared, [x])
    prepared(x).sum().backward()
    torch.optim.SGD(prepared.parameters(), lr=1.0).step()
    assert not torch.equal(prepared.get_submodule("0").weight, model[0].weight)
    assert torch.equal(model(x), before)


def test_what_was_trained_is_converted(tmp_path):
    model, x = model_in(tmp_path), torch.randn(2, 512)
    prepared = fxquant.prepare(model, target="onnxruntime")
    with torch.no_grad():
        prepared.get_submodule("0").weight.mul_(2.0)
    offload = fxquant.Offload(block_bytes=1 << 20)
    fxquant.calibrate(prepared, [x], offload=offload)
    plain = fxquant.prepare(chain(), target="onnxruntime")
    plain.load_state_dict(prepared.state_dict())
    fxquant.calibrate(plain, [x])
    assert torch.equal(fxquant.convert(prepared)(x), fxquant.convert(plain)(x))
