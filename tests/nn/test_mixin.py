"""What holds for every quantized class: sharing, float equality, copies, compilation, and who has one."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fxquant.errors import ModelTypeError
from fxquant.nn import QuantizationMixin, QuantizedConv2d, quantized_class_of
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn import cases
from tests.nn.cases import Case

EVERY_CASE = pytest.mark.parametrize("case", cases.ALL.values(), ids=cases.ALL)
EVERY_CLASS = pytest.mark.parametrize("case", cases.CLASSES.values(), ids=cases.CLASSES)


class DoublesItsOutput(nn.Conv2d):
    """Computes something else than its base."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class DoublesItsWeight(nn.Conv2d):
    """Computes something else than its base, below forward."""

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return super()._conv_forward(input, 2 * weight, bias)


class Named(nn.Conv2d):
    """Computes what its base computes."""


@pytest.fixture
def conv() -> nn.Conv2d:
    """Return a float module."""
    return nn.Conv2d(3, 4, 3)


@EVERY_CASE
def test_float_forward_equals_the_torch_module(case: Case) -> None:
    quantized = _with_quantizers(case)
    torch.testing.assert_close(
        quantized.float_forward(*case.inputs, **case.kwargs),
        case.module(*case.inputs, **case.kwargs),
        rtol=0,
        atol=0,
    )


@EVERY_CASE
def test_a_module_without_quantizers_equals_the_torch_module(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    expected = case.module(*case.inputs, **case.kwargs)
    torch.testing.assert_close(quantized(*case.inputs, **case.kwargs), expected, rtol=0, atol=0)


@EVERY_CLASS
def test_from_module_shares_parameters_and_buffers(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    shared = dict(case.module.named_parameters()) | dict(case.module.named_buffers())
    assert all(getattr(quantized, name) is tensor for name, tensor in shared.items())
    assert quantized.state_dict().keys() == case.module.state_dict().keys()


@EVERY_CLASS
def test_from_module_gives_the_registered_class_without_quantizers(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    assert type(quantized) is quantized_class_of(type(case.module))
    assert isinstance(quantized, type(case.module))
    assert set(quantized.input_quantizers) == {None}
    assert list(quantized.output_quantizers) == [None]
    assert set(quantized.param_quantizers) == set(case.module._parameters)


@EVERY_CASE
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
    ids=["deepcopy", "pickle"],
)
def test_copies_compute_the_same(case: Case, duplicate: object) -> None:
    quantized = _with_quantizers(case)
    copied = duplicate(quantized)  # type: ignore[operator]
    expected = quantized(*case.inputs, **case.kwargs)
    torch.testing.assert_close(copied(*case.inputs, **case.kwargs), expected, rtol=0, atol=0)


@EVERY_CLASS
@pytest.mark.usefixtures("fresh_compiler")
def test_every_class_compiles_without_a_graph_break(case: Case) -> None:
    quantized = _with_quantizers(case)
    compiled = torch.compile(quantized, fullgraph=True, backend="eager")
    expected = quantized(*case.inputs, **case.kwargs)
    torch.testing.assert_close(compiled(*case.inputs, **case.kwargs), expected, rtol=0, atol=0)


def test_every_registered_class_has_a_case() -> None:
    registered = {original.__name__ for original in QuantizationMixin.quantized_classes}
    assert registered == set(cases.CLASSES)


def test_quantizers_are_not_added_to_the_float_module(conv: nn.Conv2d) -> None:
    quantized = QuantizationMixin.from_module(conv)
    quantized.output_quantizers[0] = QuantizeDequantize((), 8, True)
    assert dict(conv.named_children()) == {}
    assert type(conv) is nn.Conv2d


def test_hooks_and_mode_are_taken_over(conv: nn.Conv2d) -> None:
    conv.eval().register_forward_hook(lambda module, args, output: output + 100)
    quantized = QuantizationMixin.from_module(conv)
    assert not quantized.training
    assert torch.equal(quantized(torch.ones(1, 3, 3, 3)), conv(torch.ones(1, 3, 3, 3)))


def test_a_quantized_class_can_be_constructed_directly() -> None:
    module = QuantizedConv2d(3, 4, 3, bias=False)
    assert list(module.param_quantizers.items()) == [("weight", None), ("bias", None)]
    assert module(torch.ones(1, 3, 3, 3)).shape == (1, 4, 1, 1)


def test_quantizers_are_submodules_of_a_quantized_module() -> None:
    module = QuantizedConv2d(3, 4, 3)
    module.param_quantizers["weight"] = QuantizeDequantize((), 8, True)
    assert {"param_quantizers.weight.min", "param_quantizers.weight.max"} <= module.state_dict().keys()


def test_a_subclass_with_its_own_forward_has_no_quantized_class() -> None:
    assert quantized_class_of(DoublesItsOutput) is None


def test_a_subclass_that_computes_the_same_is_served_by_its_base() -> None:
    assert quantized_class_of(Named) is QuantizedConv2d


def test_a_subclass_with_its_own_conv_forward_has_no_quantized_class() -> None:
    assert quantized_class_of(DoublesItsWeight) is None


@pytest.mark.parametrize(
    "parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm], ids=["weight", "spectral"]
)
def test_a_parametrized_module_is_refused(conv: nn.Conv2d, parametrize: object) -> None:
    module = parametrize(conv).eval()  # type: ignore[operator]
    with pytest.raises(ModelTypeError, match="has no weight of its own"):
        QuantizationMixin.from_module(module)


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d", "Linear", "Embedding"])
def test_the_input_may_be_given_by_keyword(name: str) -> None:
    case = cases.CLASSES[name]
    quantized = QuantizationMixin.from_module(case.module)
    assert torch.equal(quantized(input=case.inputs[0]), case.module(input=case.inputs[0]))


def test_an_input_given_by_keyword_is_quantized() -> None:
    case = cases.CLASSES["MaxPool2d"]
    quantized = QuantizationMixin.from_module(case.module)
    quantized.input_quantizers[0] = _quantizer()
    assert torch.equal(quantized(input=case.inputs[0]), quantized(case.inputs[0]))


def test_a_module_without_a_quantized_class_is_an_error() -> None:
    with pytest.raises(ModelTypeError, match=r"There is no quantized class for PReLU\. Register one with"):
        QuantizationMixin.from_module(nn.PReLU())


def test_a_user_can_register_a_quantized_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuantizationMixin, "quantized_classes", dict(QuantizationMixin.quantized_classes))

    @QuantizationMixin.implements(nn.Softsign)
    class QuantizedSoftsign(QuantizationMixin, nn.Softsign):
        pass

    module = QuantizationMixin.from_module(nn.Softsign())
    module.output_quantizers[0] = _quantizer()
    assert isinstance(module, QuantizedSoftsign)
    assert torch.equal(module(torch.ones(3)), _quantizer()(torch.ones(3) / 2))


def _quantizer() -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    return quantizer


def _with_quantizers(case: Case) -> QuantizationMixin:
    """Return a quantized module that quantizes all it can: inputs, output and every parameter it has."""
    module = QuantizationMixin.from_module(case.module)
    module.input_quantizers = nn.ModuleList([_quantizer() for _ in module.input_quantizers])
    module.output_quantizers[0] = _quantizer()
    module.param_quantizers = nn.ModuleDict({name: _quantizer() for name in module.param_quantizers})
    return module
