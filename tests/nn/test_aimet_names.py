"""Names that code written for AIMET imports."""

import importlib

import pytest
import torch

import fxquant.nn
from fxquant.nn import QuantizationMixin, custom, true_quant
from fxquant.nn.fake_quant._legacy_impl import FakeQuantizationMixin


def test_deprecated_names_are_the_present_ones() -> None:
    assert FakeQuantizationMixin is fxquant.nn.BaseQuantizationMixin is QuantizationMixin
    assert true_quant.QuantizationMixin is QuantizationMixin
    assert fxquant.nn.QuantizedNLLLoss2d is fxquant.nn.QuantizedNLLLoss


def test_custom_modules_are_one_module_under_two_names() -> None:
    assert importlib.import_module("fxquant.nn.modules.custom") is custom
    assert fxquant.nn.modules.custom is custom


@pytest.mark.parametrize("name", ["QuantizedConv2d", "QuantizedReLU", "QuantizedLSTM"])
def test_quantized_classes_are_found_where_aimet_has_them(name: str) -> None:
    assert getattr(true_quant, name) is getattr(fxquant.nn, name)


def test_a_function_can_be_dispatched() -> None:
    with true_quant._dispatch(torch.add, torch.mul):
        assert torch.add(torch.tensor(3), torch.tensor(4)) == 12
    assert true_quant._dispatch_table == {}
