import platform

import pytest
import torch
from safetensors import safe_open

from fxquant.storage import MappedMemory, release
from tests.storage.shards import chain, held, loaded, written

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="reads Linux's notes on pages")


def model_in(folder):
    return loaded(chain, written(chain(), folder))


def test_loading_reads_nothing(tmp_path):
    assert held(model_in(tmp_path)) == []


def test_released_tensors_take_no_memory_and_keep_their_values(tmp_path):
    model = model_in(tmp_path)
    before = model[0].weight.detach().clone()
    assert held(model) == ["0.weight"]
    release(model.parameters())
    assert held(model) == []
    assert torch.equal(model[0].weight, before)


def test_what_was_written_is_kept(tmp_path):
    weight = model_in(tmp_path)[0].weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.data[100] = 7.0  # no version counts that
    release([weight])
    assert torch.equal(weight[100], torch.full((512,), 7.0))
    assert torch.equal(weight[200:], before[200:])
    assert not MappedMemory().is_unwritten(weight)


def test_tensors_in_plain_memory_are_left_alone():
    tensor = torch.randn(1000, 1000)
    before = tensor.clone()
    release([tensor, torch.empty(0), torch.empty(3, device="meta"), torch.eye(2).to_sparse()])
    assert torch.equal(tensor, before)
    assert MappedMemory().region_of(tensor) is None


def test_tensors_mapped_by_torch_are_known(tmp_path):
    torch.save({"weight": torch.randn(512, 512)}, tmp_path / "saved.pt")
    weight = torch.load(tmp_path / "saved.pt", mmap=True)["weight"]
    assert MappedMemory().region_of(weight).path == tmp_path / "saved.pt"


def test_tensors_mapped_by_safetensors_are_known(tmp_path):
    path = written(chain(), tmp_path) / "model-0.safetensors"
    with safe_open(path, "pt") as file:
        weight = file.get_tensor("0.weight")
    assert MappedMemory().region_of(weight).path == path
