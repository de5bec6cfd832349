"""QuantizedTensor and DequantizedTensor: from one form to the other, copies, and autograd."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from torch import nn

import fxquant.quantization as Q
from fxquant.quantization import (
    AffineEncoding,
    DequantizedTensor,
    EncodingError,
    QuantizedTensor,
    QuantizedTensorBase,
)
from tests.quantization.strategies import encodings, shaped_encodings, tensors, tensors_of

KINDS = pytest.mark.parametrize("kind", [QuantizedTensor, DequantizedTensor], ids=["codes", "values"])


def through_pickle(tensor: torch.Tensor) -> torch.Tensor:
    return pickle.loads(pickle.dumps(tensor))


def through_torch_save(tensor: torch.Tensor) -> torch.Tensor:
    file = io.BytesIO()
    torch.save(tensor, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, torch.clone, through_pickle, through_torch_save]
)


@pytest.fixture
def encoding() -> AffineEncoding:
    """Return an encoding with one scale."""
    return AffineEncoding(torch.tensor(0.5), torch.tensor(-3.0), 0, 255)


@given(encoding=encodings(), tensor=tensors())
def test_codes_and_values_turn_into_each_other_without_loss(
    encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    real = DequantizedTensor.carrying(encoding.quantize_dequantize(tensor), encoding)
    codes = real.quantize()
    assert torch.equal(codes, encoding.quantize(tensor))
    assert torch.equal(codes.dequantize(), real)
    assert torch.equal(codes.dequantize().quantize(), codes)


@given(encoding=shaped_encodings((2, 2), block_size=(2, -1)), tensor=tensors_of((4, 6)))
def test_codes_and_values_of_blocks_turn_into_each_other_without_loss(
    encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    real = DequantizedTensor.carrying(encoding.quantize_dequantize(tensor), encoding)
    assert torch.equal(real.quantize().dequantize(), real)


@given(encoding=encodings(), tensor=tensors())
def test_both_forms_have_the_same_integers(encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    real = DequantizedTensor.carrying(encoding.quantize_dequantize(tensor), encoding)
    found = real.quantized_repr()
    assert (type(found), found.dtype) == (torch.Tensor, encoding.dtype)
    assert torch.equal(found, encoding.to_integers(tensor))
    assert torch.equal(real.quantize().quantized_repr(), found)


@KINDS
def test_the_form_a_tensor_has_already_is_the_tensor_itself(
    kind: type[QuantizedTensorBase], encoding: AffineEncoding
) -> None:
    tensor = kind.carrying(torch.ones(3), encoding)
    same = {QuantizedTensor: tensor.quantize, DequantizedTensor: tensor.dequantize}[kind]
    assert same() is tensor


@KINDS
def test_the_other_form_has_the_same_encoding(
    kind: type[QuantizedTensorBase], encoding: AffineEncoding
) -> None:
    tensor = kind.carrying(torch.ones(3), encoding)
    assert torch.equal(tensor.quantize().encoding.scale, encoding.scale)
    assert torch.equal(tensor.dequantize().encoding.scale, encoding.scale)


@KINDS
def test_a_tensor_is_made_of_numbers_or_of_another_tensor(
    kind: type[QuantizedTensorBase], encoding: AffineEncoding
) -> None:
    from_numbers, from_tensor = kind([1.0, 2.0], encoding=encoding), kind(torch.ones(2))
    assert (type(from_numbers), from_numbers.tolist()) == (kind, [1.0, 2.0])
    assert from_numbers.encoding is encoding
    assert from_tensor.encoding is None


@KINDS
def test_integers_are_refused(kind: type[QuantizedTensorBase]) -> None:
    with pytest.raises(RuntimeError, match=r"Non-floating point dtype `torch\.int64` is not allowed"):
        kind(torch.arange(3))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (QuantizedTensor, "dequantize"),
        (QuantizedTensor, "quantized_repr"),
        (DequantizedTensor, "quantize"),
        (DequantizedTensor, "quantized_repr"),
    ],
)
def test_without_an_encoding_there_is_no_other_form(kind: type[QuantizedTensorBase], name: str) -> None:
    with pytest.raises(EncodingError, match="Encoding does not exist"):
        getattr(kind(torch.ones(3)), name)()


@KINDS
@COPIES
def test_copies_carry_a_copy_of_the_encoding(
    duplicate: Callable[[torch.Tensor], torch.Tensor],
    kind: type[QuantizedTensorBase],
    encoding: AffineEncoding,
) -> None:
    tensor = kind.carrying(torch.arange(3.0), encoding)
    found = duplicate(tensor)
    assert (type(found), found.tolist()) == (kind, [0.0, 1.0, 2.0])
    assert (found.encoding.scale.item(), found.encoding.offset.item()) == (0.5, -3.0)
    assert (found.encoding.qmin, found.encoding.qmax) == (0, 255)


@KINDS
@COPIES
def test_copies_of_what_has_lost_its_encoding_have_none(
    duplicate: Callable[[torch.Tensor], torch.Tensor], kind: type[QuantizedTensorBase]
) -> None:
    assert duplicate(kind.carrying(torch.ones(3), None)).encoding is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, torch.clone, through_pickle], ids=lambda f: f.__name__)
def test_a_copy_shares_no_memory(
    duplicate: Callable[[torch.Tensor], torch.Tensor], encoding: AffineEncoding
) -> None:
    tensor = DequantizedTensor.carrying(torch.ones(3), encoding)
    found = duplicate(tensor)
    found.fill_(7.0)
    found_encoding = duplicate(tensor).encoding
    found_encoding.scale.fill_(9.0)
    assert (tensor.tolist(), encoding.scale.item()) == ([1.0, 1.0, 1.0], 0.5)


def test_a_detached_tensor_carries_a_detached_encoding() -> None:
    quantizer = Q.affine.QuantizeDequantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    found = quantizer(torch.randn(3)).detach()
    assert (found.requires_grad, found.encoding.scale.requires_grad) == (False, False)


def test_a_cloned_tensor_carries_an_encoding_that_learns() -> None:
    quantizer = Q.affine.QuantizeDequantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    quantizer(torch.randn(3)).clone().encoding.scale.backward()
    assert quantizer.max.grad.item() == pytest.approx(1 / 255, rel=1e-6)


@pytest.fixture
def quantizer() -> Q.affine.QuantizeDequantize:
    """Return a quantizer with a range."""
    quantizer = Q.affine.QuantizeDequantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    return quantizer


def test_a_tensor_knows_the_quantizer_that_made_it(quantizer: Q.affine.QuantizeDequantize) -> None:
    output = quantizer(torch.ones(2))
    assert output.encoding.producer is quantizer
    assert output.quantize().encoding.producer is quantizer


@pytest.mark.parametrize("name", ["clone", "detach", "flatten", "half"])
def test_a_moved_tensor_knows_it_too(quantizer: Q.affine.QuantizeDequantize, name: str) -> None:
    assert getattr(quantizer(torch.ones(2, 2)), name)().encoding.producer is quantizer


def test_a_pickled_tensor_does_not_drag_its_quantizer_along(quantizer: Q.affine.QuantizeDequantize) -> None:
    assert through_pickle(quantizer.requires_grad_(False)(torch.ones(2))).encoding.producer is None


def test_values_of_a_half_type_keep_their_type() -> None:
    quantizer = Q.affine.QuantizeDequantize((), 8, False)
    quantizer.set_range(-1.0, 1.0)
    found = quantizer(torch.randn(9).half())
    assert (found.dtype, found.quantize().dtype, found.quantize().dequantize().dtype) == (torch.float16,) * 3


def test_new_empty_has_the_class_and_no_encoding(encoding: AffineEncoding) -> None:
    found = DequantizedTensor.carrying(torch.ones(3), encoding).new_empty((2, 2), dtype=torch.float64)
    assert (type(found), found.shape, found.dtype) == (DequantizedTensor, (2, 2), torch.float64)
    assert found.encoding is None


def test_gradients_flow_through_both_forms() -> None:
    x = torch.tensor([-9.0, 0.3, 0.4, 9.0], requires_grad=True)
    quantizer = Q.affine.QuantizeDequantize((), 8, False)
    quantizer.set_range(-1.0, 1.0)
    there_and_back = quantizer(x).quantize().dequantize()
    there_and_back.sum().backward()
    assert x.grad.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert quantizer.min.grad is not None


def test_a_quantized_parameter_stays_one(encoding: AffineEncoding) -> None:
    parameter = nn.Parameter(DequantizedTensor.carrying(torch.ones(2), encoding))
    module = nn.Module()
    module.weight = parameter
    assert list(module.parameters()) == [parameter]
    assert isinstance(parameter, DequantizedTensor)


def test_a_module_with_a_quantized_weight_computes_as_with_a_plain_one(encoding: AffineEncoding) -> None:
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    plain = encoding.quantize_dequantize(linear.weight.detach())
    expected = nn.functional.linear(x, plain, linear.bias)
    linear.weight = nn.Parameter(DequantizedTensor.carrying(plain, encoding))
    found = linear(x)
    assert type(found) is torch.Tensor
    assert torch.equal(found, expected)


class _Compiled(nn.Module):
    """Quantizers of every kind before, between and behind ordinary ops."""

    def __init__(self) -> None:
        super().__init__()
        self.before = Q.affine.QuantizeDequantize((), 8, False)
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.weight_quantizer = Q.affine.QuantizeDequantize((3, 2), 4, True, block_size=(1, 2))
        self.behind = Q.affine.Quantize((), 8, True)
        self.real = Q.affine.Dequantize((), 8, True)
        for quantizer in (self.before, self.weight_quantizer, self.behind, self.real):
            quantizer.set_range(-1.0, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.real(
            self.behind(nn.functional.linear(self.before(x), self.weight_quantizer(self.weight)))
        )


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("trained", [True, False], ids=["training", "inference"])
def test_a_compiled_module_has_no_graph_break_and_gives_plain_tensors(trained: bool) -> None:
    module = _Compiled().requires_grad_(trained)
    x = torch.randn(5, 4)
    found = torch.compile(module, fullgraph=True, backend="eager")(x)
    assert type(found) is torch.Tensor
    assert torch.equal(found, module(x).as_subclass(torch.Tensor))
