"""A range kept as min and max or as scale and offset."""

import copy
import pickle

import pytest
import torch
from torch import nn

from fxquant.errors import QuantizerError
from fxquant.quantization.affine import (
    GroupedBlockQuantizeDequantize,
    MinMaxQuantizer,
    QuantizeDequantize,
    ScaleOffsetQuantizer,
)

EPS = torch.finfo(torch.float32).eps

SYMMETRIES = pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
SHAPES = pytest.mark.parametrize(
    ("shape", "block_size"),
    [((), None), ((4, 1), None), ((4, 2), (1, 3))],
    ids=["tensor", "channel", "block"],
)


def made(
    symmetric: bool = False, shape: tuple[int, ...] = (), block_size: tuple[int, ...] | None = None
) -> QuantizeDequantize:
    return QuantizeDequantize(shape, 8, symmetric, block_size=block_size)


def by_scale(symmetric: bool = False, bounds: tuple[float, float] | None = (-1.0, 2.0)) -> QuantizeDequantize:
    quantizer = made(symmetric)
    quantizer._reparametrize_to_scale_offset()
    quantizer.set_range(*(bounds or (None, None)))
    return quantizer


def test_a_quantizer_begins_with_min_and_max() -> None:
    assert [name for name, _ in made().named_parameters()] == ["min", "max"]
    assert isinstance(made(), MinMaxQuantizer)
    assert not isinstance(made(), ScaleOffsetQuantizer)


@pytest.mark.parametrize(("symmetric", "names"), [(True, ["scale"]), (False, ["scale", "offset"])], ids=str)
def test_a_symmetric_offset_is_no_parameter(symmetric: bool, names: list[str]) -> None:
    quantizer = by_scale(symmetric)
    assert [name for name, _ in quantizer.named_parameters()] == names
    assert isinstance(quantizer, ScaleOffsetQuantizer)
    assert not isinstance(quantizer, MinMaxQuantizer)


@pytest.mark.parametrize("module", [nn.Linear(1, 1), torch.zeros(1), None], ids=["module", "tensor", "none"])
def test_nothing_else_is_either(module: object) -> None:
    assert not isinstance(module, MinMaxQuantizer | ScaleOffsetQuantizer)


@SHAPES
@SYMMETRIES
def test_another_parametrization_computes_the_same(
    symmetric: bool, shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    quantizer, x = made(symmetric, shape, block_size), torch.randn(4, 6)
    quantizer.calibrate(x)
    before, scale = quantizer(x), quantizer.get_scale()
    quantizer._reparametrize_to_scale_offset()
    assert quantizer.is_initialized()
    # scale = (max - min) / n, with ends that are rounded products of it: some eps of difference
    torch.testing.assert_close(quantizer.get_scale(), scale, rtol=4 * EPS, atol=0)
    torch.testing.assert_close(quantizer(x), before, rtol=8 * EPS, atol=0)
    quantizer._reparametrize_to_min_max()
    assert isinstance(quantizer, MinMaxQuantizer)
    torch.testing.assert_close(quantizer(x), before, rtol=16 * EPS, atol=0)


def test_a_fresh_quantizer_stays_without_a_range() -> None:
    quantizer = by_scale(bounds=None)
    assert not quantizer.is_initialized()
    quantizer._reparametrize_to_min_max()
    assert not quantizer.is_initialized()


def test_the_parametrization_in_use_is_kept() -> None:
    quantizer = by_scale()
    scale = quantizer.scale
    quantizer._reparametrize_to_scale_offset()
    assert quantizer.scale is scale


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_what_was_trained_is_trained(trained: bool) -> None:
    quantizer = made().requires_grad_(trained)
    quantizer._reparametrize_to_scale_offset()
    assert {parameter.requires_grad for parameter in quantizer.parameters()} == {trained}


def test_the_device_stays() -> None:
    quantizer = made().to("meta")
    quantizer._reparametrize_to_scale_offset()
    assert quantizer.scale.device.type == "meta"


def test_a_shifted_asymmetric_grid_stays_where_it_is() -> None:
    quantizer = QuantizeDequantize((), 0, 15, False, zero_point_shift=0.5)
    quantizer.set_range(-1.0, 2.0)
    before = quantizer.get_min().item()
    quantizer._reparametrize_to_scale_offset()
    assert quantizer.get_min().item() == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize(
    ("quantizer", "name", "used"),
    [
        (by_scale(), "min", "scale/offset"),
        (by_scale(), "max", "scale/offset"),
        (made(), "scale", "min/max"),
        (made(), "offset", "min/max"),
    ],
    ids=["min", "max", "scale", "offset"],
)
def test_what_is_no_parameter_says_how_to_get_it(quantizer: QuantizeDequantize, name: str, used: str) -> None:
    message = rf"parametrized with {used}\. To get '{name}' of this quantizer, use get_{name}\(\)"
    with pytest.raises(AttributeError, match=message):
        getattr(quantizer, name)


def test_other_missing_attributes_are_plain_errors() -> None:
    with pytest.raises(AttributeError, match=r"'QuantizeDequantize' object has no attribute 'foo'$"):
        made().foo  # noqa: B018


@SYMMETRIES
def test_calibration_sets_scale_and_offset(symmetric: bool) -> None:
    quantizer, other, x = by_scale(symmetric, None), made(symmetric), torch.tensor([-1.0, 2.0])
    for calibrated in (quantizer, other):
        with calibrated.compute_encodings():
            calibrated(x)
    assert torch.equal(quantizer.get_scale(), other.get_scale())
    assert torch.equal(quantizer.get_offset(), other.get_offset())


def test_one_end_alone_is_no_scale() -> None:
    with pytest.raises(QuantizerError, match="One end of a range is not enough"):
        by_scale(bounds=None).set_range(-1.0, None)


def test_one_end_moves_where_there_is_another() -> None:
    quantizer = by_scale(bounds=(-1.0, 1.0))
    quantizer.set_range(None, 4.0)
    # the grid has a code at zero: each end may be off by half a step
    half = quantizer.get_scale().item() / 2
    assert quantizer.get_min().item() == pytest.approx(-1.0, abs=half)
    assert quantizer.get_max().item() == pytest.approx(4.0, abs=half)


def test_a_scale_is_positive_whatever_was_learned() -> None:
    quantizer = by_scale(True)
    with torch.no_grad():
        quantizer.scale.fill_(-0.5)
    assert quantizer.get_scale().item() == 0.5
    with torch.no_grad():
        quantizer.scale.fill_(0.0)
    assert quantizer.get_scale().item() == EPS


def test_the_offset_is_used_as_a_whole_number() -> None:
    quantizer = by_scale()
    with torch.no_grad():
        quantizer.offset.fill_(-3.4)
    assert quantizer.get_offset().item() == -3.0
    quantizer(torch.tensor([1e6])).sum().backward()
    assert quantizer.offset.grad.item() == pytest.approx(quantizer.get_scale().item())


def test_another_symmetry_gives_or_takes_the_offset() -> None:
    quantizer = by_scale(False)
    quantizer.symmetric = True
    assert [name for name, _ in quantizer.named_parameters()] == ["scale"]
    quantizer.symmetric = False
    assert quantizer.offset.item() == -128.0
    assert quantizer.symmetric is False


def test_another_sign_keeps_the_values_of_a_symmetric_grid() -> None:
    quantizer, x = by_scale(True), torch.randn(9)
    before = quantizer(x)
    quantizer.signed = False
    assert torch.equal(quantizer(x), before)


def test_another_sign_keeps_the_values_of_an_asymmetric_grid() -> None:
    quantizer, x = by_scale(False), torch.randn(9)
    before = quantizer(x)
    quantizer.signed = True
    assert torch.equal(quantizer(x), before)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda quantizer: pickle.loads(pickle.dumps(quantizer))],
    ids=["deepcopy", "pickle"],
)
@SYMMETRIES
def test_copies_keep_the_parametrization(duplicate: object, symmetric: bool) -> None:
    quantizer, x = by_scale(symmetric), torch.randn(9)
    found = duplicate(quantizer)  # type: ignore[operator]
    assert isinstance(found, ScaleOffsetQuantizer)
    assert torch.equal(found(x), quantizer(x))


@SYMMETRIES
@pytest.mark.parametrize("other", [True, False], ids=["into-symmetric", "into-asymmetric"])
def test_a_state_brings_symmetry_scale_and_offset(symmetric: bool, other: bool) -> None:
    quantizer, loaded, x = by_scale(symmetric), by_scale(other, None), torch.randn(9)
    loaded.load_state_dict(quantizer.state_dict(), strict=False)
    assert (loaded.is_initialized(), repr(loaded)) == (True, repr(quantizer))
    assert torch.equal(loaded(x), quantizer(x))


@pytest.mark.parametrize(
    ("source", "target"), [(made(), by_scale()), (by_scale(), made())], ids=["min-max", "scale-offset"]
)
def test_the_state_of_the_other_parametrization_is_refused(
    source: QuantizeDequantize, target: QuantizeDequantize
) -> None:
    with pytest.raises(QuantizerError, match=r"The state holds .*, the quantizer"):
        target.load_state_dict(source.state_dict(), strict=False)
    with pytest.raises(RuntimeError, match="Missing key"):
        target.load_state_dict(source.state_dict())


def test_half_types_leave_the_scale_in_float32() -> None:
    quantizer = by_scale().half()
    assert (quantizer.scale.dtype, quantizer.offset.dtype) == (torch.float32, torch.float32)
    assert quantizer(torch.ones(1, dtype=torch.float16)).dtype == torch.float16


def test_groups_of_blocks_compute_the_same_by_scale() -> None:
    quantizer, x = (
        GroupedBlockQuantizeDequantize((2, 4), 4, True, 8, None, (1, 2), (1, -1)),
        torch.randn(2, 8),
    )
    quantizer.calibrate(x)
    before = quantizer(x)
    quantizer._reparametrize_to_scale_offset()
    torch.testing.assert_close(quantizer(x), before, rtol=8 * EPS, atol=0)


def test_groups_of_blocks_keep_the_range_of_each_block() -> None:
    quantizer, x = (
        GroupedBlockQuantizeDequantize((2, 4), 4, True, 8, None, (1, 2), (1, -1)),
        torch.randn(2, 8),
    )
    quantizer.calibrate(x)
    before = quantizer.max.detach().clone()
    quantizer._reparametrize_to_scale_offset()
    quantizer._reparametrize_to_min_max()
    torch.testing.assert_close(quantizer.max.detach(), before, rtol=8 * EPS, atol=0)
