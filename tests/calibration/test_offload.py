import pytest
import torch
from torch import fx

from fxquant.calibration import offload
from fxquant.calibration.offload import Boundary, Offload

NODE = fx.Graph().placeholder("x")
VALUES = {
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "part of a larger tensor": torch.randn(100, 8)[3:5],
    "every other column": torch.randn(4, 8)[:, ::2],
    "expanded": torch.randn(1, 4).expand(3, 4),
    "transposed": torch.randn(3, 5).t(),
    "bfloat16": torch.randn(3).bfloat16(),
    "scalar": torch.tensor(2.0),
    "nothing": torch.empty(0, 3),
    "integers": torch.arange(4),
    "booleans": torch.tensor([True, False]),
}


@pytest.mark.parametrize("activations", ["cpu", "disk"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_tensors_come_back_as_they_were(value, activations, monkeypatch):
    monkeypatch.setattr(offload, "_SMALL", 0)
    with Boundary(Offload(activations=activations)) as boundary:
        boundary.put(0, NODE, value)
        back = boundary.get(0, NODE)
    assert (back.dtype, back.shape, back.stride()) == (value.dtype, value.shape, value.stride())
    assert torch.equal(back, value)


@pytest.mark.parametrize("activations", ["cpu", "disk"])
def test_a_view_does_not_keep_the_rest_of_its_memory(activations, monkeypatch):
    monkeypatch.setattr(offload, "_SMALL", 0)
    with Boundary(Offload(activations=activations)) as boundary:
        boundary.put(0, NODE, torch.randn(1000, 8)[3:5])
        assert boundary.get(0, NODE).untyped_storage().nbytes() == 2 * 8 * 4


def test_containers_and_plain_values_are_kept_too(monkeypatch):
    monkeypatch.setattr(offload, "_SMALL", 0)
    marker = object()
    with Boundary(Offload(activations="disk")) as boundary:
        boundary.put(1, NODE, {"a": [torch.ones(2), 3], "b": (None, marker)})
        back = boundary.get(1, NODE)
    assert torch.equal(back["a"][0], torch.ones(2))
    assert (back["a"][1], back["b"]) == (3, (None, marker))


def test_small_tensors_need_no_file(tmp_path):
    with Boundary(Offload(activations="disk", folder=tmp_path)) as boundary:
        boundary.put(0, NODE, torch.ones(4))
        assert list(tmp_path.rglob("*.pt")) == []


def test_what_is_dropped_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(offload, "_SMALL", 0)
    with Boundary(Offload(activations="disk", folder=tmp_path)) as boundary:
        boundary.put(0, NODE, (torch.ones(4), torch.ones(5)))
        assert len(list(tmp_path.rglob("*.pt"))) == 2
        boundary.drop(0, NODE)
        assert list(tmp_path.rglob("*.pt")) == []
