"""Functional ops as modules, by hand in quantized models."""

import operator
from collections.abc import Callable

import pytest
import torch

from fxquant.nn import QuantizationMixin, custom
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn import cases
from tests.nn.cases import Case

FUNCTIONS = [operator.add, operator.mul, operator.matmul, lambda *tensors: torch.cat(tensors, dim=1)]
QUANTIZED = [custom.QuantizedAdd, custom.QuantizedMultiply, custom.QuantizedMatMul, custom.QuantizedConcat]
BINARY = ["Add", "Multiply", "MatMul"]


@pytest.mark.parametrize(
    ("case", "function"), list(zip(cases.CUSTOM.values(), FUNCTIONS, strict=True)), ids=cases.CUSTOM
)
def test_a_custom_module_is_its_function(case: Case, function: Callable[..., torch.Tensor]) -> None:
    assert torch.equal(case.module(*case.inputs), function(*case.inputs))


@pytest.mark.parametrize(
    ("case", "quantized_class"), list(zip(cases.CUSTOM.values(), QUANTIZED, strict=True)), ids=cases.CUSTOM
)
def test_a_custom_module_has_its_quantized_class(
    case: Case, quantized_class: type[QuantizationMixin]
) -> None:
    assert type(QuantizationMixin.from_module(case.module)) is quantized_class


@pytest.mark.parametrize("name", BINARY)
def test_each_operand_has_its_quantizer(name: str) -> None:
    case = cases.CUSTOM[name]
    module = QuantizationMixin.from_module(case.module)
    fine, coarse = _quantizer(8), _quantizer(3)
    module.input_quantizers[0], module.input_quantizers[1] = fine, coarse
    x, y = case.inputs
    assert torch.equal(module(x, y), case.module(fine(x), coarse(y)))


@pytest.mark.parametrize("name", BINARY)
def test_an_operand_may_stay_float(name: str) -> None:
    case = cases.CUSTOM[name]
    module = QuantizationMixin.from_module(case.module)
    module.input_quantizers[1] = _quantizer(3)
    x, y = case.inputs
    assert torch.equal(module(x, y), case.module(x, _quantizer(3)(y)))


@pytest.mark.parametrize("name", list(cases.CUSTOM))
def test_the_result_is_quantized(name: str) -> None:
    case = cases.CUSTOM[name]
    module = QuantizationMixin.from_module(case.module)
    module.output_quantizers[0] = _quantizer(4)
    assert torch.equal(module(*case.inputs), _quantizer(4)(case.module(*case.inputs)))


def test_concat_takes_as_many_quantizers_as_it_is_given() -> None:
    case = cases.CUSTOM["Concat"]
    module = QuantizationMixin.from_module(case.module)
    module.input_quantizers[0] = _quantizer(3)
    module.input_quantizers.extend([_quantizer(4), _quantizer(5)])
    x, y, z = case.inputs
    assert torch.equal(module(x, y, z), case.module(_quantizer(3)(x), _quantizer(4)(y), _quantizer(5)(z)))


def test_concat_keeps_its_dimension() -> None:
    assert QuantizationMixin.from_module(custom.Concat(dim=-1)).dim == -1


def _quantizer(bitwidth: int) -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), bitwidth, True)
    quantizer.set_range(-3.0, 3.0)
    return quantizer
