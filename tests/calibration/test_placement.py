import pytest
import torch
from torch import nn

from fxquant.calibration.placement import placement_of


class Sharded(nn.Parameter):
    """A parameter that knows the devices it is spread over, as those of FSDP do."""

    device_mesh = "mesh"


def on(*devices):
    return nn.ModuleList(nn.Linear(2, 2, device=device) for device in devices)


def spread():
    model = on("cpu")
    model[0].weight = Sharded(torch.rand(2, 2))
    return model


def stored_in_bytes():
    model = nn.Linear(2, 2, dtype=torch.bfloat16)
    model.weight = nn.Parameter(model.weight.to(torch.float8_e4m3fn))
    return model


@pytest.mark.parametrize(
    ("model", "device"),
    [
        pytest.param(on("cpu", "cpu"), "cpu", id="one device"),
        pytest.param(on("cpu", "meta"), None, id="some of it offloaded"),
        pytest.param(on("meta"), None, id="offloaded"),
        pytest.param(spread(), None, id="sharded over processes"),
        pytest.param(nn.ReLU(), None, id="nothing to be anywhere"),
        pytest.param(nn.BatchNorm1d(2, affine=False), "cpu", id="buffers only"),
        pytest.param("no model", None, id="no model"),
    ],
)
def test_device_of_a_model(model, device):
    assert placement_of(model).device == (device and torch.device(device))


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        pytest.param(nn.Linear(2, 2, dtype=torch.float64), torch.float64, id="double"),
        pytest.param(nn.Embedding(2, 2).bfloat16(), torch.bfloat16, id="bfloat16"),
        pytest.param(stored_in_bytes(), torch.bfloat16, id="weights stored as float8"),
        pytest.param(nn.ReLU(), torch.float32, id="none"),
    ],
)
def test_type_that_a_model_computes_in(model, dtype):
    assert placement_of(model).floating == dtype


def test_inputs_of_a_model_on_meta_stay_where_they_are():
    x = torch.rand(2)
    assert placement_of(on("meta")).placed({"x": x})["x"] is x


def test_tensor_on_the_right_device_is_not_copied():
    x = torch.rand(2)
    assert placement_of(on("cpu")).placed(x) is x


@pytest.mark.cuda
def test_inputs_follow_the_model_to_the_accelerator_and_back():
    x = torch.rand(2)
    moved = placement_of(on("cuda")).placed([x])[0]
    assert moved.device.type == "cuda"
    assert torch.equal(placement_of(on("cpu")).placed(moved), x)
