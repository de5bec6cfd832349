"""ParameterCache: it gives what quantizing anew would give, after every kind of write."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fxquant
from fxquant.nn import QuantizedLinear
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn.cases import normal

WRITES: dict[str, Callable[[QuantizedLinear], object]] = {
    "in place": lambda module: module.weight.mul_(2),
    "through data": lambda module: module.weight.data.mul_(2),
    "rows swapped through data": lambda module: module.weight.data.copy_(module.weight.data.flip(0)),
    "columns swapped through data": lambda module: module.weight.data.copy_(module.weight.data.flip(1)),
    "transposed through data": lambda module: module.weight.data.copy_(module.weight.data.T.clone()),
    "another parameter": lambda module: setattr(module, "weight", nn.Parameter(normal(4, 4))),
    "the range": lambda module: module.param_quantizers["weight"].set_range(-1.0, 1.0),
    "the grid": lambda module: setattr(module.param_quantizers["weight"], "bitwidth", 4),
    "another quantizer": lambda module: module.param_quantizers.update({"weight": _quantizer(4)}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
@torch.no_grad()
def test_a_write_is_noticed(write: Callable[[QuantizedLinear], object]) -> None:
    module = _module()
    module.quantized_parameter("weight")
    write(module)
    expected = module.param_quantizers["weight"](module.weight)
    assert torch.equal(module.quantized_parameter("weight"), expected)


@torch.no_grad()
def test_without_a_write_a_parameter_is_quantized_once() -> None:
    module = _module()
    assert module.quantized_parameter("weight") is module.quantized_parameter("weight")
    assert copy.deepcopy(module)._parameter_cache._entries == {}


def test_where_a_gradient_is_wanted_nothing_is_kept() -> None:
    module = _module()
    assert module.quantized_parameter("weight") is not module.quantized_parameter("weight")
    assert module.quantized_parameter("weight").requires_grad


def _module() -> QuantizedLinear:
    module = QuantizedLinear(4, 4)
    module.weight = nn.Parameter(normal(4, 4))
    module.param_quantizers["weight"] = _quantizer(8)
    return module


def _quantizer(bitwidth: int) -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), bitwidth, True)
    quantizer.set_range(-3.0, 3.0)
    return quantizer


CODE_WRITES: dict[str, Callable[[torch.Tensor], object]] = {
    "in place": lambda codes: codes.neg_(),
    "through data": lambda codes: codes.data.neg_(),
    "one code": lambda codes: codes.data.view(-1)[-1].add_(1),
    "rows swapped": lambda codes: codes.data.copy_(codes.data.flip(0)),
    "columns swapped": lambda codes: codes.data.copy_(codes.data.flip(1)),
    "two far codes swapped": lambda codes: codes.data.view(-1).__setitem__(
        [0, -1], codes.data.view(-1)[[-1, 0]]
    ),
    "transposed": lambda codes: codes.data.copy_(codes.data.T.clone()),
}


@pytest.mark.parametrize("size", [3, 8, 70, 129])
@pytest.mark.parametrize("write", CODE_WRITES.values(), ids=list(CODE_WRITES))
def test_a_write_into_codes_is_noticed(write: Callable[[torch.Tensor], object], size: int) -> None:
    module = _with_codes(size)
    for _ in range(2):
        module.quantized_parameter("weight")
    write(module.weight)
    expected = module.param_quantizers["weight"](module.weight)
    assert torch.equal(module.quantized_parameter("weight"), expected)


def test_another_scale_of_codes_is_noticed() -> None:
    module = _with_codes(8)
    module.quantized_parameter("weight")
    before = module.quantized_parameter("weight")
    module.param_quantizers["weight"].scale.data.mul_(2)
    assert torch.equal(module.quantized_parameter("weight"), before * 2)


def test_the_first_call_keeps_no_real_values_of_codes() -> None:
    module = _with_codes(8)
    first = module.quantized_parameter("weight")
    assert module._parameter_cache._entries["weight"].value is None
    assert torch.equal(module.quantized_parameter("weight"), first)


def test_codes_become_real_values_once_and_copies_files_and_moves_leave_those_out() -> None:
    module = _with_codes(8)
    module.quantized_parameter("weight")
    assert module.quantized_parameter("weight") is module.quantized_parameter("weight")
    assert copy.deepcopy(module)._parameter_cache._entries == {}
    assert pickle.loads(pickle.dumps(module))._parameter_cache._entries == {}
    assert module.state_dict()["weight"].dtype is torch.int8
    assert module.double()._parameter_cache._entries == {}
    assert module.quantized_parameter("weight").dtype is torch.float64


def _with_codes(size: int) -> QuantizedLinear:
    module = QuantizedLinear(size, size, bias=False)
    module.weight = nn.Parameter(normal(size, size))
    module.freeze_parameter("weight", _quantizer(8).get_encodings())
    return module


def test_gradients_flow_after_inference_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    batch = torch.randn(2, 4)
    prepared = fxquant.prepare(model, batch, target="onnxruntime")
    fxquant.calibrate(prepared, [batch])
    for simulated in (prepared, fxquant.convert(prepared)):
        with torch.inference_mode():
            simulated(batch), simulated(batch)
        wanted = batch.clone().requires_grad_()
        simulated(wanted).sum().backward()
        assert wanted.grad.isfinite().all()
