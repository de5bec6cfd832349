"""Frozen quantizers: the numbers of the quantizer they come from, fixed."""

import copy
import pickle

import pytest
import torch
from hypothesis import given

from fxquant.errors import QuantizerError
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import FrozenDequantize, FrozenQuantizeDequantize, QuantizeDequantize
from tests.quantization.strategies import (
    channel_encodings,
    encodings,
    matrices,
    shaped_encodings,
    tensors,
    tensors_of,
)

BOTH = pytest.mark.parametrize("frozen_class", [FrozenQuantizeDequantize, FrozenDequantize])
FrozenClass = type[FrozenQuantizeDequantize] | type[FrozenDequantize]


@pytest.fixture
def encoding() -> AffineEncoding:
    """Return an asymmetric encoding per channel, which needs gradients, as a quantizer hands it out."""
    quantizer = QuantizeDequantize((3, 1), 8, False)
    quantizer.set_range(torch.tensor([[-1.0], [-2.0], [0.0]]), 3.0)
    return quantizer.get_encodings()


@given(encoding=encodings(), tensor=tensors())
def test_frozen_values_equal_those_of_the_encoding(encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    assert torch.equal(FrozenQuantizeDequantize(encoding)(tensor), encoding.quantize_dequantize(tensor))


@given(encoding=channel_encodings(3), tensor=matrices(3))
def test_stored_codes_give_the_simulated_values(encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    codes = encoding.to_integers(tensor)
    assert torch.equal(FrozenDequantize(encoding)(codes), encoding.quantize_dequantize(tensor))


def test_freezing_a_quantizer_keeps_its_output() -> None:
    quantizer, x = QuantizeDequantize((), 8, True), torch.randn(100)
    quantizer.set_range(-1.0, 1.0)
    assert torch.equal(FrozenQuantizeDequantize(quantizer.get_encodings())(x), quantizer(x))


@given(encoding=shaped_encodings((2, 2), block_size=(2, -1)), tensor=tensors_of((4, 6)))
def test_blocks_are_frozen_too(encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    expected = encoding.quantize_dequantize(tensor)
    assert torch.equal(FrozenQuantizeDequantize(encoding)(tensor), expected)
    assert torch.equal(FrozenDequantize(encoding)(encoding.to_integers(tensor)), expected)


def test_a_shifted_grid_is_frozen_with_its_shift() -> None:
    encoding = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), -2, 1, zero_point_shift=0.5)
    x = torch.linspace(-1.0, 1.0, 9)
    assert torch.equal(FrozenQuantizeDequantize(encoding)(x), encoding.quantize_dequantize(x))


@BOTH
def test_outputs_are_plain_tensors(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    assert type(frozen_class(encoding)(torch.ones(3, 2))) is torch.Tensor


@BOTH
def test_it_is_made_from_an_encoding_and_cannot_be_calibrated(
    frozen_class: FrozenClass, encoding: AffineEncoding
) -> None:
    frozen, x = frozen_class.from_encodings(encoding), torch.full((3, 2), 9.0)
    with frozen.compute_encodings():
        frozen(x)
    assert torch.equal(frozen.get_encodings().scale, encoding.scale)
    with pytest.raises(QuantizerError, match="A frozen quantizer has a fixed encoding"):
        frozen.set_range_from_stats()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_stored_codes_become_values_of_the_type_of_the_model(
    dtype: torch.dtype, encoding: AffineEncoding
) -> None:
    assert FrozenDequantize(encoding).to(dtype)(torch.ones(3, 2, dtype=torch.uint8)).dtype == dtype


def test_a_frozen_encoding_does_not_follow_its_quantizer() -> None:
    quantizer = QuantizeDequantize((), 8, True)
    quantizer.set_range(-1.0, 1.0)
    frozen = FrozenQuantizeDequantize(quantizer.get_encodings())
    quantizer.set_range(-9.0, 9.0)
    assert frozen.get_encodings().scale.item() == torch.tensor(2 / 255).item()


@BOTH
def test_nothing_in_it_learns(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    frozen = frozen_class(encoding)
    assert list(frozen.parameters()) == []
    assert not any(tensor.requires_grad for tensor in frozen.buffers())


@BOTH
def test_it_always_has_its_encoding(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    frozen = frozen_class(encoding)
    found = frozen.get_encodings()
    assert frozen.is_initialized()
    assert torch.equal(found.scale, encoding.scale)
    assert torch.equal(found.offset, encoding.offset)
    assert (found.qmin, found.qmax, found.symmetry) == (0, 255, False)


@BOTH
def test_it_prints_its_grid(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    text = f"{frozen_class.__name__}(shape=(3, 1), qmin=0, qmax=255, symmetric=False)"
    assert repr(frozen_class(encoding)) == text


@BOTH
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_compute_the_same(
    frozen_class: FrozenClass, duplicate: object, encoding: AffineEncoding
) -> None:
    frozen = frozen_class(encoding)
    x = torch.arange(6).reshape(3, 2).float()
    assert torch.equal(duplicate(frozen)(x), frozen(x))  # type: ignore[operator]


@BOTH
def test_the_state_dict_holds_scale_and_offset(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    blank = frozen_class(AffineEncoding(torch.ones(3, 1), torch.zeros(3, 1), 0, 255))
    blank.load_state_dict(frozen_class(encoding).state_dict())
    x = torch.arange(6).reshape(3, 2).float()
    assert torch.equal(blank(x), frozen_class(encoding)(x))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_leave_the_scale_in_float32(
    frozen_class: FrozenClass, dtype: torch.dtype, encoding: AffineEncoding
) -> None:
    assert frozen_class(encoding).to(dtype).get_encodings().scale.dtype == torch.float32


def test_gradients_pass_inside_the_grid_only() -> None:
    frozen = FrozenQuantizeDequantize(AffineEncoding(torch.tensor(0.1), torch.tensor(0.0), -128, 127))
    x = torch.tensor([-99.0, 0.3, 99.0], requires_grad=True)
    frozen(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


@BOTH
@pytest.mark.usefixtures("fresh_compiler")
def test_it_compiles_without_a_graph_break(frozen_class: FrozenClass, encoding: AffineEncoding) -> None:
    frozen, x = frozen_class(encoding), torch.randn(3, 20)
    assert torch.equal(torch.compile(frozen, fullgraph=True, backend="eager")(x), frozen(x))
