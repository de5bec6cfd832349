"""QuantizerState: options and ranges that are set, kept in checkpoints and read back."""

import logging

import numpy as np
import pytest
import torch

from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor


def quantizer(**options):
    return TensorQuantizer(QuantDescriptor(**options))


BUFFERS = pytest.mark.parametrize("name", ["amax", "pre_quant_scale"])


@BUFFERS
def test_a_value_is_unknown_until_it_is_set_and_then_keeps_its_shape(name):
    module = quantizer()
    assert getattr(module, name) is None
    assert module.state_dict() == {}
    setattr(module, name, np.array([3.0, 2.5], np.float32))
    assert getattr(module, name).tolist() == [3, 2.5]
    assert list(module.state_dict()) == [f"_{name}"]
    setattr(module, name, np.array([1.0, 2.0], np.float32))
    assert getattr(module, name).tolist() == [1, 2]
    with pytest.raises(RuntimeError, match=f"Changing shape when setting {name} is not allowed"):
        setattr(module, name, 1.0)


@BUFFERS
def test_a_value_can_be_taken_away_and_set_as_an_attribute(name):
    module = quantizer()
    setattr(module, name, 2.0)
    delattr(module, f"_{name}")
    assert getattr(module, name) is None
    setattr(module, f"_{name}", torch.tensor(3.0))
    assert getattr(module, name) == 3


@BUFFERS
def test_a_number_is_float32(name):
    module = quantizer()
    setattr(module, name, 0.577)
    assert getattr(module, name).dtype == torch.float32
    assert getattr(module, name).shape == ()


@BUFFERS
def test_a_tensor_is_copied_with_a_warning_and_none_is_not_taken(name, caplog):
    module, value = quantizer(), torch.ones(2)
    with caplog.at_level(logging.WARNING):
        setattr(module, name, value)
        value.zero_()
        setattr(module, name, None)
    assert getattr(module, name).tolist() == [1, 1]
    assert f"setter of {name} is not meant for tensors" in caplog.text
    assert f"Setting {name} to None is meaningless" in caplog.text


def test_options_can_be_set_and_bounds_follow():
    module = quantizer(amax=3.0)
    assert (module.maxbound, module.step_size) == (127, torch.tensor(3.0) / 127)
    module.num_bits, module.unsigned, module.narrow_range = 7, True, True
    assert (module.num_bits, module.unsigned, module.narrow_range) == (7, True, True)
    assert (module.maxbound, module.step_size) == (127, torch.tensor(3.0) / 127)
    module.num_bits = 4
    assert module.maxbound == 15
    assert quantizer(num_bits=(4, 3)).maxbound == 448


def test_options_without_a_setter_are_those_of_the_descriptor():
    module = quantizer(axis=(0, 1), fake_quant=False)
    assert (module.axis, module.fake_quant) == ((0, 1), False)
    with pytest.raises(AttributeError):
        module.axis = 2


def test_a_step_is_undefined_without_amax_or_codes(caplog):
    assert quantizer().step_size is None
    assert "step_size is undefined" in caplog.text
    with pytest.raises(RuntimeError, match="no integer codes"):
        _ = quantizer(num_bits=(4, 3), amax=1.0).step_size


def test_fake_quantization_has_no_scale_to_speak_of(caplog):
    module = quantizer()
    module(torch.ones(2))
    assert module.scale == 1
    assert "doesn't use scale" in caplog.text


@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_a_checkpoint_brings_ranges_that_the_module_does_not_know(assign):
    source = torch.nn.Sequential(quantizer(amax=[3.0, 2.5]), quantizer())
    source[0].pre_quant_scale = 2.0
    target = torch.nn.Sequential(quantizer(), quantizer())
    target.load_state_dict(source.state_dict(), assign=assign)
    assert target[0].amax.tolist() == [3, 2.5]
    assert target[0].pre_quant_scale == 2
    assert target[1].amax is None
    assert source[0].amax.data_ptr() != target[0].amax.data_ptr() or assign


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_a_checkpoint_loads_on_the_device_that_the_module_is_on():
    target = quantizer(learn_amax=True).to("meta")
    target.load_state_dict(quantizer(learn_amax=True, amax=2.0).state_dict())
    assert target.amax.is_meta


@pytest.mark.cuda
def test_a_range_on_the_cpu_serves_tensors_on_a_gpu():
    module = quantizer()
    module.load_state_dict({"_amax": torch.ones(3)})
    assert module(torch.ones(3, device="cuda")).device.type == "cuda"


def test_a_checkpoint_without_a_known_range_is_missing_a_key(caplog):
    with pytest.raises(RuntimeError, match="Missing key"):
        quantizer(amax=1.0).load_state_dict({})
    assert "no _amax in the checkpoint" in caplog.text
    module = quantizer(amax=1.0)
    module.load_state_dict({}, strict=False)
    assert module.amax == 1


def test_a_checkpoint_of_another_shape_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        quantizer(amax=1.0).load_state_dict({"_amax": torch.ones(2)})
