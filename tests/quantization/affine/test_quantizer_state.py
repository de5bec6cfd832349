"""QuantizeDequantize: how it knows that it has a range, and how that outlives copies, casts and files."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxquant.quantization.affine import QuantizeDequantize

Change = Callable[[QuantizeDequantize], QuantizeDequantize]


def fresh() -> QuantizeDequantize:
    return QuantizeDequantize((), 8, False)


def calibrated() -> QuantizeDequantize:
    quantizer = fresh()
    quantizer.set_range(-0.25, 0.75)
    return quantizer


def write_in_place(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    with torch.no_grad():
        quantizer.min.fill_(-0.25)
        quantizer.max.fill_(0.75)
    return quantizer


def replace_parameters(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    quantizer.min = nn.Parameter(torch.tensor(-0.25))
    quantizer.max = nn.Parameter(torch.tensor(0.75))
    return quantizer


def set_ends_one_by_one(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    quantizer.set_range(-0.25, None)
    quantizer.set_range(None, 0.75)
    return quantizer


def calibrate(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    with quantizer.compute_encodings():
        quantizer(torch.tensor([-0.25, 0.75]))
    return quantizer


def calibrate_in_inference_mode(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    with torch.inference_mode():
        return calibrate(quantizer)


def load(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    quantizer.load_state_dict(calibrated().state_dict())
    return quantizer


def load_assigning(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    quantizer.load_state_dict(calibrated().state_dict(), assign=True)
    return quantizer


def load_range_only(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    ends = {"min": torch.tensor(-0.25), "max": torch.tensor(0.75)}
    quantizer.load_state_dict(ends, strict=False)
    return quantizer


def through_pickle(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    return pickle.loads(pickle.dumps(quantizer))


def through_torch_save(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    file = io.BytesIO()
    torch.save(quantizer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_state_file(quantizer: QuantizeDequantize) -> QuantizeDequantize:
    file = io.BytesIO()
    torch.save(quantizer.state_dict(), file)
    file.seek(0)
    loaded = QuantizeDequantize((), 4, True)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    return loaded


WAYS_TO_SET = pytest.mark.parametrize(
    "change",
    [
        write_in_place,
        replace_parameters,
        set_ends_one_by_one,
        calibrate,
        calibrate_in_inference_mode,
        load,
        load_assigning,
        load_range_only,
    ],
)
WAYS_TO_COPY = pytest.mark.parametrize(
    "change",
    [
        copy.copy,
        copy.deepcopy,
        through_pickle,
        through_torch_save,
        through_state_file,
        QuantizeDequantize.half,
        QuantizeDequantize.bfloat16,
        QuantizeDequantize.double,
    ],
)


@WAYS_TO_SET
def test_a_quantizer_knows_its_range_however_it_was_set(change: Change) -> None:
    quantizer = change(fresh())
    assert quantizer.is_initialized()
    assert torch.equal(quantizer(torch.tensor(9.0)), calibrated()(torch.tensor(9.0)))


@WAYS_TO_COPY
def test_a_range_outlives_copies_casts_and_files(change: Change) -> None:
    quantizer = change(calibrated())
    assert quantizer.is_initialized()
    assert torch.equal(quantizer(torch.tensor(9.0)), calibrated()(torch.tensor(9.0)))


@WAYS_TO_COPY
def test_copies_casts_and_files_do_not_make_a_range(change: Change) -> None:
    assert not change(fresh()).is_initialized()


@WAYS_TO_COPY
def test_a_copy_of_a_fresh_quantizer_can_be_calibrated(change: Change) -> None:
    assert calibrate(change(fresh())).is_initialized()


@pytest.mark.parametrize("end", ["min", "max"])
def test_one_end_alone_is_not_a_range(end: str) -> None:
    replaced, written = fresh(), fresh()
    setattr(replaced, end, nn.Parameter(torch.tensor(0.0)))
    with torch.no_grad():
        getattr(written, end).fill_(0.0)
    assert not replaced.is_initialized()
    assert not written.is_initialized()


def test_half_an_initialization_outlives_a_copy() -> None:
    quantizer = fresh()
    quantizer.set_range(-0.25, None)
    copied = copy.deepcopy(quantizer)
    copied.set_range(None, 0.75)
    assert copied.is_initialized()
    assert not quantizer.is_initialized()


def test_a_failed_calibration_does_not_make_a_range() -> None:
    quantizer = fresh()
    with pytest.raises(RuntimeError, match="invalid for input of size"), quantizer.compute_encodings():
        quantizer(torch.ones(1)).view(7)
    assert not quantizer.is_initialized()


def test_loading_a_fresh_state_takes_the_range_away() -> None:
    quantizer = calibrated()
    quantizer.load_state_dict(fresh().state_dict())
    assert not quantizer.is_initialized()


def test_a_move_that_makes_new_parameters_does_not_make_a_range() -> None:
    assert not fresh().to("meta").is_initialized()
    assert not fresh().to("meta").to_empty(device="cpu").is_initialized()


def test_a_quantizer_can_be_made_in_inference_mode() -> None:
    with torch.inference_mode():
        assert not fresh().is_initialized()


@pytest.mark.parametrize("change", [QuantizeDequantize.half, QuantizeDequantize.bfloat16])
def test_half_types_leave_the_range_in_float32(change: Change) -> None:
    quantizer = change(calibrated())
    assert (quantizer.min.dtype, quantizer.get_scale().dtype) == (torch.float32, torch.float32)
    assert quantizer(torch.ones(1, dtype=torch.float16)).dtype == torch.float16


def test_double_makes_the_range_float64() -> None:
    quantizer = calibrated().double()
    assert (quantizer.min.dtype, quantizer.get_scale(torch.float64).dtype) == (torch.float64, torch.float64)


def test_a_state_can_be_loaded_twice_and_brings_its_grid() -> None:
    state = calibrated().state_dict()
    first, second = QuantizeDequantize((), 4, True), QuantizeDequantize((), 4, True)
    first.load_state_dict(state)
    second.load_state_dict(state)
    assert repr(first) == repr(second) == repr(calibrated())


def test_a_loaded_quantizer_is_calibrated_on_the_grid_of_the_state() -> None:
    quantizer = QuantizeDequantize((), 4, True)
    quantizer.load_state_dict(fresh().state_dict())
    assert torch.equal(calibrate(quantizer).get_scale(), calibrate(fresh()).get_scale())


def test_a_copy_has_a_range_of_its_own() -> None:
    quantizer = calibrated()
    copy.deepcopy(quantizer).set_range(-5.0, 5.0)
    assert (quantizer.min.item(), quantizer.max.item()) == (-0.25, 0.75)


SHAPES = pytest.mark.parametrize(
    ("shape", "block_size"),
    [((), None), ((4, 1), None), ((4, 2), (1, 3))],
    ids=["tensor", "channel", "block"],
)


def of_shape(shape: tuple[int, ...], block_size: tuple[int, ...] | None) -> QuantizeDequantize:
    quantizer = QuantizeDequantize(shape, 8, False, block_size=block_size)
    quantizer.set_range(-torch.rand(shape), torch.rand(shape))
    return quantizer


@SHAPES
def test_loading_without_strictness_brings_shape_blocks_and_grid(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    quantizer, loaded, x = of_shape(shape, block_size), QuantizeDequantize((2,), 4, True), torch.randn(4, 6)
    loaded.load_state_dict(quantizer.state_dict(), strict=False)
    assert repr(loaded) == repr(quantizer)
    assert torch.equal(loaded(x), quantizer(x))


@pytest.mark.parametrize(
    ("shape", "block_size"), [((4, 1), None), ((4, 2), (1, 3))], ids=["channel", "block"]
)
def test_a_quantizer_loaded_into_another_shape_can_be_calibrated(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    quantizer, loaded, x = of_shape(shape, block_size), QuantizeDequantize((), 4, True), torch.randn(4, 6)
    loaded.load_state_dict(quantizer.state_dict(), strict=False)
    loaded.calibrate(x)
    quantizer.calibrate(x)
    assert torch.equal(loaded.get_scale(), quantizer.get_scale())


def test_loading_another_shape_strictly_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for min"):
        QuantizeDequantize((), 8, False).load_state_dict(of_shape((4, 1), None).state_dict())


@SHAPES
def test_a_state_has_tensors_only_and_is_not_changed_by_loading(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    state = of_shape(shape, block_size).state_dict()
    before = copy.deepcopy(state)
    QuantizeDequantize((2,), 4, True).load_state_dict(state, strict=False)
    assert sorted(state) == ["_extra_state", "max", "min"]
    assert sorted(state["_extra_state"]) == sorted(before["_extra_state"])
    assert all(isinstance(value, torch.Tensor) for value in state["_extra_state"].values())


@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        through_pickle,
        through_torch_save,
        lambda quantizer: (quantizer.load_state_dict(quantizer.state_dict()), quantizer)[1],
    ],
    ids=["deepcopy", "pickle", "torch-save", "load"],
)
def test_the_block_size_stays_a_tuple_of_numbers(change: Change) -> None:
    found = change(of_shape((4, 2), (-1, 3))).block_size
    assert found == (-1, 3)
    assert {type(size) for size in found} == {int}


def test_a_state_of_a_module_holds_the_states_of_its_quantizers() -> None:
    model, other = (
        nn.Sequential(nn.ReLU(), calibrated()),
        nn.Sequential(nn.ReLU(), QuantizeDequantize((), 4, True)),
    )
    other.load_state_dict(model.state_dict())
    assert repr(other) == repr(model)
    assert other[1].is_initialized()


def test_a_shift_travels_in_the_state() -> None:
    quantizer, loaded = (
        QuantizeDequantize((), 2, True, zero_point_shift=0.5),
        QuantizeDequantize((), 8, False),
    )
    quantizer.set_range(-1.0, 1.0)
    loaded.load_state_dict(quantizer.state_dict())
    x = torch.linspace(-1, 1, 9)
    assert torch.equal(loaded(x), quantizer(x))


def test_frozen_ends_outlive_a_copy() -> None:
    quantizer = calibrated()
    quantizer.allow_overwrite(min=False)
    copied = copy.deepcopy(quantizer)
    assert (copied.is_overwrite_allowed("min"), copied.is_overwrite_allowed("max")) == (False, True)


def test_an_optimizer_step_counts_as_setting_the_range() -> None:
    quantizer = fresh()
    for parameter in quantizer.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(quantizer.parameters(), lr=0.1).step()
    assert quantizer.is_initialized()


def test_reading_the_range_does_not_set_it() -> None:
    quantizer = fresh()
    _ = quantizer.min + quantizer.max, quantizer.state_dict(), repr(quantizer), quantizer.get_extra_state()
    assert not quantizer.is_initialized()


def test_a_range_copied_into_a_fresh_quantizer_by_reference_is_set() -> None:
    quantizer, other = fresh(), calibrated()
    quantizer.min, quantizer.max = other.min, other.max
    assert quantizer.is_initialized()
