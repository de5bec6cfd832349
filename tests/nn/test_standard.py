"""StandardForward: quantizers meet inputs by position, however they are given."""

import pytest
import torch
from torch import nn

from fxquant.nn import QuantizationMixin, QuantizedLinear, QuantizedMaxPool2d, StandardForward, custom
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn.cases import normal


def quantizer(limit: float = 3.0) -> QuantizeDequantize:
    """Return a coarse quantizer, so that it shows where it was."""
    made = QuantizeDequantize((), 4, True)
    made.set_range(-limit, limit)
    return made


def test_one_quantizer_may_serve_two_inputs() -> None:
    module = custom.QuantizedAdd()
    shared = module.input_quantizers[0] = module.input_quantizers[1] = QuantizeDequantize((), 8, False)
    with module.compute_encodings():
        module(torch.tensor([-1.0]), torch.tensor([5.0]))
    assert (shared.min.item(), shared.max.item()) == (-1.0, 5.0)
    assert torch.equal(module(torch.ones(1), torch.ones(1)), shared(torch.ones(1)) * 2)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (custom.QuantizedAdd(), ("x", "y")),
        (custom.QuantizedMultiply(), ("input", "y")),
        (custom.QuantizedSubtract(), ("input", "other")),
        (custom.QuantizedMatMul(), ("input", "other")),
    ],
    ids=["add", "multiply", "subtract", "matmul"],
)
@pytest.mark.parametrize("positional", [0, 1])
def test_an_input_given_by_keyword_is_quantized(
    module: StandardForward, names: tuple[str, ...], positional: int
) -> None:
    x, y = normal(3, 3), normal(3, 3).abs()
    module.input_quantizers[0], module.input_quantizers[1] = quantizer(), quantizer(2.0)
    given = dict(zip(names, (x, y), strict=True))
    by_position = [given.pop(name) for name in names[:positional]]
    assert torch.equal(module(*by_position, **given), module(x, y))


@pytest.mark.parametrize("module", [QuantizedLinear(4, 4), QuantizedMaxPool2d(1)], ids=["linear", "pool"])
def test_the_input_of_a_torch_module_may_be_given_by_keyword(module: StandardForward) -> None:
    x = normal(1, 4, 4, 4)
    module.input_quantizers[0] = quantizer()
    assert torch.equal(module(input=x), module(x))


def test_an_input_may_stay_float() -> None:
    module, x, y = custom.QuantizedMultiply(), normal(3), normal(3).abs()
    module.input_quantizers[1] = quantizer()
    assert torch.equal(module(x, y), x * quantizer()(y))


@pytest.mark.parametrize("other", [2, 2.5, torch.tensor([1, 2, 3])], ids=["int", "float", "integers"])
def test_what_is_no_float_tensor_is_not_quantized(other: object) -> None:
    module, x = custom.QuantizedMultiply(), normal(3)
    module.input_quantizers[0], module.input_quantizers[1] = quantizer(), quantizer(0.1)
    assert torch.equal(module(x, other), quantizer()(x) * other)


def test_numbers_are_added_as_numbers() -> None:
    assert custom.QuantizedAdd()(2, 3) == 5
    assert custom.QuantizedPow()(2, 3) == 8


def test_integers_given_to_a_quantized_module_are_not_observed() -> None:
    module = custom.QuantizedLog()
    module.input_quantizers[0], module.output_quantizers[0] = (QuantizeDequantize((), 8, False) for _ in "xy")
    with module.compute_encodings():
        module(torch.tensor([1, 5]))
    assert [q.is_initialized() for q in (*module.input_quantizers, *module.output_quantizers)] == [
        False,
        True,
    ]


def test_concat_takes_as_many_quantizers_as_it_is_given() -> None:
    module = custom.QuantizedConcat(1)
    module.input_quantizers[0] = quantizer(1.0)
    module.input_quantizers.extend([quantizer(2.0), quantizer(3.0)])
    x, y, z = normal(2, 3), normal(2, 4), normal(2, 1)
    expected = torch.cat([quantizer(1.0)(x), quantizer(2.0)(y), quantizer(3.0)(z)], dim=1)
    assert torch.equal(module(x, y, z), expected)


def test_tensors_beyond_the_quantizers_stay_float() -> None:
    module, x = custom.QuantizedConcat(), normal(3)
    module.input_quantizers[0] = quantizer()
    assert torch.equal(module(x, x), torch.cat([quantizer()(x), x]))


def test_one_quantizer_serves_all_parts() -> None:
    module, x = custom.QuantizedSplit(), normal(4)
    module.output_quantizers[0] = quantizer()
    assert all(
        torch.equal(part, quantizer()(expected))
        for part, expected in zip(module(x, 2), x.split(2), strict=True)
    )


def test_of_values_and_indices_the_values_are_quantized() -> None:
    module, x = custom.QuantizedMax(), normal(3, 4)
    module.output_quantizers[0] = quantizer()
    output, expected = module(x, dim=1), x.max(dim=1)
    assert type(output) is type(expected)
    assert torch.equal(output.values, quantizer()(expected.values))
    assert torch.equal(output.indices, expected.indices)


def test_during_calibration_the_activations_pass_and_the_parameters_are_quantized() -> None:
    module, x = QuantizedLinear(4, 4), normal(3, 4)
    module.input_quantizers[0], module.output_quantizers[0] = (QuantizeDequantize((), 2, False) for _ in "xy")
    module.param_quantizers["weight"] = QuantizeDequantize((), 4, True)
    with module.compute_encodings():
        output = module(x)
    weight = module.param_quantizers["weight"](module.weight)
    assert torch.equal(output, nn.functional.linear(x, weight, module.bias))


def test_nothing_is_calibrated_when_the_context_fails() -> None:
    module = custom.QuantizedAdd()
    module.output_quantizers[0] = QuantizeDequantize((), 8, True)
    with pytest.raises(TypeError), module.compute_encodings():
        module(torch.ones(1), "no tensor")
    assert not module.output_quantizers[0].is_initialized()


def test_a_user_can_write_a_class_on_top_of_it() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    class QuantizedTwice(StandardForward, Twice):
        pass

    module = QuantizedTwice()
    module.output_quantizers[0] = quantizer()
    assert torch.equal(module(torch.ones(1)), quantizer()(torch.full((1,), 2.0)))
    assert isinstance(module, QuantizationMixin)
