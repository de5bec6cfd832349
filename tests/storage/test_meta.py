import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import ModelTypeError


def test_parameters_are_on_meta_and_buffers_are_real():
    with fxquant.parameters_on_meta():
        norm = nn.BatchNorm1d(4)
    assert {p.device.type for p in norm.parameters()} == {"meta"}
    assert torch.equal(norm.running_var, torch.ones(4))


def test_modules_built_afterwards_are_as_ever():
    with pytest.raises(ZeroDivisionError), fxquant.parameters_on_meta():
        nn.Linear(1 // 0, 1)
    assert nn.Linear(2, 2).weight.device.type == "cpu"


def test_shared_parameters_stay_shared_and_absent_ones_absent():
    with fxquant.parameters_on_meta():
        first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
        second.weight = first.weight
    assert second.weight is first.weight
    assert first.bias is None


def test_attributes_and_what_needs_no_gradient_stay():
    parameter = nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.owner = "mine"
    with fxquant.parameters_on_meta():
        module = nn.Module()
        module.held = parameter
    assert (module.held.owner, module.held.requires_grad, module.held.shape) == ("mine", False, (2,))


def prepared_without_values():
    with torch.device("meta"):
        return fxquant.prepare(nn.Sequential(nn.Linear(2, 2)))


def test_recording_asks_for_values():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ModelTypeError, match=r"'0.weight' is on the meta device.*load_shards") as caught:
        fxquant.prepare(model, torch.ones(1, 2))
    assert caught.value.layer == "0"


def test_calibration_asks_for_values():
    prepared = prepared_without_values()
    with pytest.raises(ModelTypeError, match=r"'0.weight' is on the meta device"):
        fxquant.calibrate(prepared, [torch.ones(1, 2)])
