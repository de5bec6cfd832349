"""Modules with parameters: quantized forward against its parts, and weights stored as integers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.nn import QuantizationMixin
from fxquant.quantization import AffineEncoding, DequantizedTensor
from fxquant.quantization.affine import FrozenDequantize, QuantizeDequantize
from tests.nn import cases
from tests.nn.cases import Case

WEIGHTED = pytest.mark.parametrize("case", cases.WEIGHTED.values(), ids=cases.WEIGHTED)
INT32 = -(2**31), 2**31 - 1


@WEIGHTED
def test_the_forward_runs_on_quantized_input_weight_and_bias(case: Case) -> None:
    module = _prepared(case)
    inputs = [quantizer(case.inputs[0]) for quantizer in module.input_quantizers] or case.inputs
    parameters = {name: module.quantized_parameter(name) for name in case.module._parameters}
    expected = module.output_quantizers[0](torch.func.functional_call(case.module, parameters, *inputs))
    assert torch.equal(module(*case.inputs), expected)


@WEIGHTED
def test_a_weight_on_its_grid_differs_from_the_float_weight(case: Case) -> None:
    module = _prepared(case)
    weight = module.quantized_parameter("weight")
    # Half a step; the allowance for float32 is derived in tests/quantization/test_functional.py.
    half_a_step = module.param_quantizers["weight"].get_scale() * (0.5 + 4 * 254 * 2**-23)
    assert not torch.equal(weight, case.module.weight)
    assert ((weight - case.module.weight).abs() <= half_a_step).all()


@WEIGHTED
def test_a_frozen_weight_is_stored_as_integers(case: Case) -> None:
    module = _frozen(case)
    assert module.weight.dtype == torch.int8
    assert isinstance(module.param_quantizers["weight"], FrozenDequantize)
    assert "weight" not in dict(module.named_parameters())
    assert "weight" in module.state_dict()


@WEIGHTED
def test_freezing_does_not_change_the_output(case: Case) -> None:
    assert torch.equal(_frozen(case)(*case.inputs), _prepared(case)(*case.inputs))


@WEIGHTED
def test_freezing_leaves_the_float_module_alone(case: Case) -> None:
    before = case.module.weight
    _frozen(case)
    assert case.module.weight is before
    assert isinstance(case.module.weight, nn.Parameter)


@WEIGHTED
def test_gradients_reach_weight_and_range(case: Case) -> None:
    module = _prepared(case)
    module.zero_grad()
    module(*case.inputs).square().sum().backward()
    assert module.weight.grad.count_nonzero() > 0
    assert module.param_quantizers["weight"].max.grad is not None


def test_a_frozen_bias_is_int32_at_the_scale_given() -> None:
    module = QuantizationMixin.from_module(nn.Linear(4, 6))
    bias = module.bias.detach().clone()
    module.freeze_parameter("bias", AffineEncoding(torch.tensor(2.0**-20), torch.tensor(0.0), *INT32, True))
    assert module.bias.dtype == torch.int32
    assert torch.equal(module.quantized_parameter("bias"), (bias * 2.0**20).round() / 2.0**20)


def test_a_frozen_state_loads_into_a_frozen_module() -> None:
    case, other = cases.WEIGHTED["Linear"], cases.case(nn.Linear(4, 6), (2, 3, 4))
    source, target = _frozen(case), _frozen(other)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(*case.inputs), source(*case.inputs))


@pytest.mark.parametrize("name", ["Linear-without-bias", "Conv2d-depthwise", "ConvTranspose2d-groups"])
def test_a_bias_that_is_absent_stays_absent(name: str) -> None:
    module = QuantizationMixin.from_module(cases.VARIANTS[name].module)
    assert module.quantized_parameter("bias") is None
    assert module.param_quantizers["bias"] is None


def test_token_ids_have_no_quantizer() -> None:
    module = QuantizationMixin.from_module(cases.WEIGHTED["Embedding"].module)
    assert list(module.input_quantizers) == []


def test_rows_of_a_quantized_table_carry_their_encoding() -> None:
    case = cases.WEIGHTED["Embedding"]
    module = QuantizationMixin.from_module(case.module)
    module.param_quantizers["weight"] = QuantizeDequantize((7, 1), 8, True)
    output = module(*case.inputs)
    assert isinstance(output, DequantizedTensor)
    assert torch.equal(
        output.encoding.scale[..., 0], module.param_quantizers["weight"].get_scale()[case.inputs[0], 0]
    )


def test_reflection_pads_with_quantized_values() -> None:
    case = cases.VARIANTS["Conv2d-reflect"]
    module = QuantizationMixin.from_module(case.module)
    module.input_quantizers[0] = _quantizer(case.inputs[0])
    padded = F.pad(module.input_quantizers[0](case.inputs[0]), (2, 2, 1, 1), mode="reflect")
    assert torch.equal(module(*case.inputs), F.conv2d(padded, case.module.weight, case.module.bias))


@pytest.mark.parametrize(
    ("args", "kwargs"), [(([12, 11],), {}), ((), {"output_size": [12, 11]})], ids=["position", "keyword"]
)
def test_the_output_size_of_a_transposed_convolution_is_kept(
    args: tuple[list[int], ...], kwargs: dict[str, list[int]]
) -> None:
    case = cases.VARIANTS["ConvTranspose2d-output-size"]
    module = QuantizationMixin.from_module(case.module)
    assert torch.equal(module(*case.inputs, *args, **kwargs), case.module(*case.inputs, *args, **kwargs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_a_prepared_module_can_be_cast(dtype: torch.dtype) -> None:
    case = cases.case(nn.Linear(4, 6), (2, 3, 4))
    assert _prepared(case).to(dtype)(case.inputs[0].to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_frozen_module_can_be_cast(dtype: torch.dtype) -> None:
    case = cases.case(nn.Linear(4, 6), (2, 3, 4))
    assert _frozen(case).to(dtype)(case.inputs[0].to(dtype)).dtype == dtype


def test_in_float_a_frozen_module_uses_real_weights() -> None:
    case = cases.WEIGHTED["Linear"]
    module = _frozen(case)
    expected = F.linear(case.inputs[0], module.quantized_parameter("weight"), case.module.bias)
    with module.in_float():
        assert torch.equal(module(*case.inputs), expected)


def _quantizer(tensor: torch.Tensor) -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), -127, 127, True)
    with quantizer.compute_encodings():
        quantizer(tensor)
    return quantizer


def _prepared(case: Case) -> QuantizationMixin:
    """Return a module with calibrated quantizers for its input, output, weight and bias."""
    module = QuantizationMixin.from_module(case.module)
    for index in range(len(module.input_quantizers)):
        module.input_quantizers[index] = _quantizer(case.inputs[index])
    module.output_quantizers[0] = _quantizer(case.module(*case.inputs))
    for name, parameter in case.module.named_parameters():
        module.param_quantizers[name] = _quantizer(parameter)
    return module


def _frozen(case: Case) -> QuantizationMixin:
    module = _prepared(case)
    module.freeze_parameter("weight", module.param_quantizers["weight"].get_encodings())
    return module
