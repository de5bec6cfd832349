"""Kernels: true-integer functions in the place of torch's."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.errors import QuantizerError
from fxquant.nn import QuantizationMixin, QuantizedLinear, custom
from fxquant.nn.kernels import replaced
from fxquant.quantization import DequantizedTensor, QuantizedTensor
from fxquant.quantization.affine import Quantize
from tests.nn import custom_cases, torch_cases
from tests.nn.cases import Case, normal, seeded

# they call a function that torch does not let anyone replace, or several
WITHOUT_KERNEL = {
    *("nn.Hardsigmoid", "nn.Hardswish", "nn.MultiheadAttention", "nn.Unflatten"),
    *("custom.ChannelShuffle", "custom.CustomSiLU"),
    *("custom.DepthToSpaceCRDMode", "custom.DepthToSpaceDCRMode", "custom.GatherNd", "custom.NullRequant"),
    *("custom.HadamardRotation", "custom.OneHot", "custom.RmsNorm", "custom.RotaryEmbedding"),
    *("custom.ScatterElements", "custom.ScatterND"),
}
CASES = {f"nn.{name}": case for name, case in torch_cases.CLASSES.items()} | {
    f"custom.{name}": case for name, case in custom_cases.CLASSES.items()
}


class Recorder:
    """A kernel that notes its arguments, and gives a tensor on a fixed grid."""

    def __init__(self) -> None:
        self.args: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *args: Any, **options: Any) -> torch.Tensor:
        self.args, self.options = args, options
        return quantizer()(torch.ones(2))


def quantizer() -> Quantize:
    """Return a quantizer that gives codes."""
    made = Quantize((), 8, True)
    made.set_range(-4.0, 4.0)
    return made


@pytest.fixture
def linear() -> QuantizedLinear:
    """Return a module all of whose tensors are quantized."""
    module = QuantizedLinear(4, 4)
    module.input_quantizers[0], module.output_quantizers[0] = quantizer(), quantizer()
    module.param_quantizers["weight"] = quantizer()
    return module


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_KERNEL])
def test_a_kernel_takes_the_place_of_the_function(name: str) -> None:
    case: Case = CASES[name]
    module = QuantizationMixin.from_module(case.module)
    called: list[Any] = []

    def kernel(*args: Any, output_encodings: Any, **options: Any) -> Any:
        called.append((args, output_encodings))
        raise KeyError("called")

    module.set_kernel(kernel)
    with pytest.raises(KeyError, match="called"):
        seeded(module, *case.inputs, **case.kwargs)
    assert len(called) == 1


@pytest.mark.parametrize("name", sorted(WITHOUT_KERNEL - {"nn.MultiheadAttention"}))
def test_a_kernel_that_cannot_be_called_is_an_error(name: str) -> None:
    case: Case = CASES[name]
    module = QuantizationMixin.from_module(case.module)
    module.set_kernel(Recorder())
    with pytest.raises(QuantizerError, match="calls no torch function that a kernel could take the place of"):
        seeded(module, *case.inputs, **case.kwargs)


def test_a_kernel_is_given_codes_and_the_encoding_of_the_output(linear: QuantizedLinear) -> None:
    kernel, x = Recorder(), normal(3, 4)
    linear.set_kernel(kernel)
    output = linear(x)
    given, weight, bias = kernel.args
    assert isinstance(given, QuantizedTensor)
    assert isinstance(weight, QuantizedTensor)
    assert torch.equal(given, quantizer()(x))
    assert torch.equal(weight, quantizer()(linear.weight))
    assert bias is linear.bias
    assert torch.equal(kernel.options["output_encodings"].scale, quantizer().get_scale())
    assert isinstance(output, DequantizedTensor)
    assert torch.equal(output, quantizer()(torch.ones(2)).dequantize())


def test_a_quantized_input_is_given_as_codes_without_a_quantizer(linear: QuantizedLinear) -> None:
    linear.input_quantizers[0] = None
    kernel = Recorder()
    linear.set_kernel(kernel)
    linear(quantizer()(normal(3, 4)).dequantize())
    assert isinstance(kernel.args[0], QuantizedTensor)


def test_during_calibration_the_simulation_runs(linear: QuantizedLinear) -> None:
    kernel = Recorder()
    linear.set_kernel(kernel)
    with linear.compute_encodings():
        linear(normal(3, 4))
    assert kernel.args == ()


def test_a_default_kernel_serves_all_modules_of_its_class(linear: QuantizedLinear) -> None:
    QuantizedLinear.set_default_kernel(F.linear)
    try:
        assert linear.get_kernel() is QuantizedLinear.get_default_kernel() is F.linear
        assert custom.QuantizedAdd.get_default_kernel() is None
    finally:
        QuantizedLinear.set_default_kernel(None)
    assert linear.get_kernel() is None


def test_an_lstm_kernel_is_given_three_encodings() -> None:
    kernel = Recorder()
    module = QuantizationMixin.from_module(nn.LSTM(4, 5))
    module.output_quantizers[1] = quantizer()
    module.set_kernel(lambda *args, **options: kernel(*args, **options) and torch.lstm(*args))
    with pytest.raises(RuntimeError):
        module(normal(3, 2, 4))
    assert [encoding is not None for encoding in kernel.options["output_encodings"]] == [False, True, False]


def test_a_function_is_replaced_inside_the_context_only() -> None:
    with replaced({torch.add: torch.mul}):
        assert torch.add(torch.tensor(3), torch.tensor(4)) == 12
        assert torch.sub(torch.tensor(3), torch.tensor(4)) == -1
    assert torch.add(torch.tensor(3), torch.tensor(4)) == 7


def test_a_substitute_runs_with_the_functions_as_they_are() -> None:
    with replaced({torch.add: lambda x, y: torch.add(x, y) + 1}):
        assert torch.add(torch.tensor(3), torch.tensor(4)) == 8


def test_a_function_that_torch_does_not_hand_over_is_an_error() -> None:
    with (
        pytest.raises(QuantizerError, match="PyTorch doesn't support overriding"),
        replaced({torch.tensor: print}),
    ):
        pass
