"""What holds for every quantized class: sharing, float equality, copies, gradients, compilation."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxquant.nn import QuantizationMixin, QuantizedConv2d, QuantizedLinear, quantized_class_of
from fxquant.quantization import DequantizedTensor
from fxquant.quantization.affine import Quantize, QuantizeDequantize
from fxquant.quantization.affine.frozen import FrozenDequantize
from tests.nn import cases, custom_cases, torch_cases
from tests.nn.cases import Case, seeded

TORCH = {f"nn.{name}": case for name, case in torch_cases.CLASSES.items()}
CUSTOM = {f"custom.{name}": case for name, case in custom_cases.CLASSES.items()}
CLASSES = TORCH | CUSTOM
ALL = CLASSES | cases.VARIANTS

EVERY_CASE = pytest.mark.parametrize("case", ALL.values(), ids=ALL)
EVERY_CLASS = pytest.mark.parametrize("case", CLASSES.values(), ids=CLASSES)

# torch's own forward breaks the graph, or the parameters are told apart by identity while it runs
UNCOMPILED = {"CTCLoss", "GaussianNLLLoss", "MultiheadAttention", "SyncBatchNorm", *torch_cases.RECURRENT}
# one of each way to run; the others take the same ways
FAST = {
    *cases.WEIGHTED,
    "BatchNorm2d",
    "LayerNorm",
    "PReLU",
    "MaxPool2d",
    "Add",
    "Concat",
    "Split",
    "RmsNorm",
}
COMPILED = [
    pytest.param(case, id=name, marks=() if name.partition(".")[2] in FAST else pytest.mark.slow)
    for name, case in CLASSES.items()
    if name.partition(".")[2] not in UNCOMPILED
]


@pytest.fixture
def conv() -> nn.Conv2d:
    """Return a float module."""
    return nn.Conv2d(3, 4, 3)


@EVERY_CASE
def test_in_float_a_module_equals_the_torch_module(case: Case) -> None:
    quantized = _with_quantizers(case)
    with quantized.in_float():
        output = seeded(quantized, *case.inputs, **case.kwargs)
    assert_same(output, case.expected())


@EVERY_CASE
def test_a_module_without_quantizers_equals_the_torch_module(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    assert_same(seeded(quantized, *case.inputs, **case.kwargs), case.expected())


@EVERY_CASE
def test_a_module_with_fine_quantizers_comes_near_the_torch_module(case: Case) -> None:
    quantized = _with_quantizers(case, bitwidth=30)
    output = seeded(quantized, *case.inputs, **case.kwargs)
    # an op may multiply the error of the grid's steps, 2^-23, and that of float32, 2^-23, a few hundred times
    torch.testing.assert_close(_plain(output), _plain(case.expected()), rtol=1e-4, atol=1e-4)


@EVERY_CASE
def test_encodings_are_computed_from_what_passes_through(case: Case) -> None:
    quantized = _with_quantizers(case, is_ready=False)
    with quantized.compute_encodings():
        seeded(quantized, *case.inputs, **case.kwargs)
    parameters = [q for name, q in quantized.param_quantizers.items() if getattr(quantized, name) is not None]
    assert all(quantizer.is_initialized() for quantizer in parameters)
    assert_same(_shapes(seeded(quantized, *case.inputs, **case.kwargs)), _shapes(case.expected()))


@EVERY_CLASS
def test_from_module_shares_parameters_and_buffers(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    shared = dict(case.module.named_parameters()) | dict(case.module.named_buffers())
    assert all(quantized.get_parameter(name) is p for name, p in case.module.named_parameters())
    assert quantized.state_dict().keys() == case.module.state_dict().keys() == shared.keys()


@EVERY_CLASS
def test_from_module_and_back_is_the_same_module(case: Case) -> None:
    quantized = _with_quantizers(case)
    original = quantized.get_original_module()
    assert type(original) is type(case.module)
    assert dict(original.named_parameters()) == dict(case.module.named_parameters())
    assert vars(original).keys() == vars(case.module).keys()
    assert [name for name, _ in original.named_modules()] == [name for name, _ in case.module.named_modules()]
    assert_same(seeded(original, *case.inputs, **case.kwargs), case.expected())


@EVERY_CLASS
def test_from_module_gives_the_registered_class_without_quantizers(case: Case) -> None:
    quantized = QuantizationMixin.from_module(case.module)
    assert type(quantized) is quantized_class_of(type(case.module))
    assert isinstance(quantized, type(case.module))
    assert set(quantized.input_quantizers) | set(quantized.output_quantizers) == {None}
    assert set(quantized.param_quantizers) == set(case.module._parameters)


@EVERY_CASE
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
    ids=["deepcopy", "pickle"],
)
def test_copies_compute_the_same(case: Case, duplicate: Callable[[nn.Module], nn.Module]) -> None:
    quantized = _with_quantizers(case)
    copied = duplicate(quantized)
    expected = seeded(quantized, *case.inputs, **case.kwargs)
    assert_same(seeded(copied, *case.inputs, **case.kwargs), expected)


@pytest.mark.parametrize("case", COMPILED)
@pytest.mark.usefixtures("fresh_compiler")
def test_every_class_compiles_without_a_graph_break(case: Case) -> None:
    quantized = _with_quantizers(case)
    compiled = torch.compile(quantized, fullgraph=True, backend="eager")
    expected = seeded(quantized, *case.inputs, **case.kwargs)
    assert_same(seeded(compiled, *case.inputs, **case.kwargs), expected)


def test_every_quantized_class_of_torch_has_a_case() -> None:
    registered = {c.__name__ for c in QuantizationMixin.cls_to_qcls if c.__module__.startswith("torch.nn")}
    assert registered == set(torch_cases.CLASSES)


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


def test_a_subclass_of_a_quantized_class_runs_like_it() -> None:
    class Named(QuantizedLinear):
        pass

    linear = nn.Linear(4, 4)
    named = Named(4, 4)
    named.load_state_dict(linear.state_dict())
    named.output_quantizers[0] = _quantizer()
    assert torch.equal(named(torch.ones(4)), _quantizer()(linear(torch.ones(4))))


def test_quantizers_are_submodules_of_a_quantized_module() -> None:
    module = QuantizedConv2d(3, 4, 3)
    module.param_quantizers["weight"] = QuantizeDequantize((), 8, True)
    assert {"param_quantizers.weight.min", "param_quantizers.weight.max"} <= module.state_dict().keys()


def test_outputs_carry_the_encoding_of_their_quantizer() -> None:
    module = QuantizedLinear(4, 4)
    module.output_quantizers[0] = _quantizer()
    output = module(torch.ones(4))
    assert isinstance(output, DequantizedTensor)
    assert output.encoding.producer is module.output_quantizers[0]


def test_codes_are_read_as_real_values() -> None:
    module, quantizer = QuantizedLinear(4, 4), Quantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    codes = quantizer(torch.full((4,), 0.3))
    assert torch.equal(module(codes), nn.functional.linear(codes.dequantize(), module.weight, module.bias))


def test_a_parameter_quantizer_without_a_range_is_calibrated_when_it_is_needed() -> None:
    module = QuantizedLinear(4, 4)
    module.param_quantizers["weight"] = QuantizeDequantize((), 8, True)
    module(torch.ones(4))
    assert module.param_quantizers["weight"].is_initialized()


def test_parameters_are_patched_inside_the_context_only() -> None:
    module = QuantizedLinear(4, 4)
    module.param_quantizers["weight"] = _quantizer()
    with module._patch_quantized_parameters():
        assert torch.equal(module.weight, _quantizer()(module._parameters.get("weight", module.weight)))
    assert isinstance(module.weight, nn.Parameter)


def assert_same(actual: object, expected: object) -> None:
    """Compare without tolerance."""
    torch.testing.assert_close(_plain(actual), _plain(expected), rtol=0, atol=0)


def _plain(value: object) -> object:
    """Return tensors as plain ones, and None, which torch.testing refuses, as zero."""
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return 0 if value is None else value


def _shapes(value: object) -> list[object]:
    if isinstance(value, tuple | list):
        return [_shapes(item) for item in value]
    return [tuple(value.shape)] if isinstance(value, torch.Tensor) else [0]


def _quantizer(bitwidth: int = 8, is_ready: bool = True) -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), bitwidth, True)
    if is_ready:
        limit = 6.0 if bitwidth == 8 else 64.0
        quantizer.set_range(-limit, limit)
    return quantizer


def _with_quantizers(case: Case, bitwidth: int = 8, is_ready: bool = True) -> QuantizationMixin:
    """Return a quantized module that quantizes all it can: inputs, outputs and every parameter it has."""
    module = QuantizationMixin.from_module(case.module)

    def several(keys: object) -> list[QuantizeDequantize]:
        return [_quantizer(bitwidth, is_ready) for _ in keys]  # type: ignore[attr-defined]

    module.input_quantizers = nn.ModuleList(several(module.input_quantizers))
    module.output_quantizers = nn.ModuleList(several(module.output_quantizers))
    module.param_quantizers = nn.ModuleDict(
        dict(zip(module.param_quantizers, several(module.param_quantizers), strict=True))
    )
    return module


def test_folding_leaves_frozen_parameters_the_integers_they_are() -> None:
    module = QuantizedLinear(4, 3)
    module.param_quantizers["weight"] = QuantizeDequantize((), 8, True)
    with module.compute_encodings():
        module(torch.randn(2, 4))
    module.freeze_parameter("weight", module.param_quantizers["weight"].get_encodings())
    module.fold_param_quantizers()
    assert module.weight.dtype is torch.int8
    assert isinstance(module.param_quantizers["weight"], FrozenDequantize)
