"""FloatQuantizeDequantize: what outlives copies, casts, files and compilation."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fxquant.quantization.float import FloatQuantizeDequantize
from fxquant.quantization.float.float_type import FLOAT8_E4M3FN, FLOAT16
from tests.quantization.float.test_quantizer import calibrated

OPTIONS: dict[str, dict[str, Any]] = {
    "float16": {"dtype": torch.float16},
    "float8": {},
    "rows": {"shape": (8, 1)},
    "float4-blocks": {
        "dtype": None,
        "exponent_bits": 2,
        "mantissa_bits": 1,
        "finite": True,
        "shape": (8, 2),
        "block_size": (1, -1),
    },
}
QUANTIZERS = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())

Copier = Callable[[FloatQuantizeDequantize], FloatQuantizeDequantize]


def saved_and_loaded(quantizer: FloatQuantizeDequantize) -> FloatQuantizeDequantize:
    buffer = io.BytesIO()
    torch.save(quantizer.state_dict(), buffer)
    buffer.seek(0)
    fresh = FloatQuantizeDequantize(dtype=torch.float8_e5m2)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    return fresh


COPIERS: dict[str, Copier] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda q: pickle.loads(pickle.dumps(q)),
    "state-dict": saved_and_loaded,
    "half": lambda q: copy.deepcopy(q).half(),
    "bfloat16": lambda q: copy.deepcopy(q).to(torch.bfloat16),
}


@QUANTIZERS
@pytest.mark.parametrize("copier", COPIERS.values(), ids=COPIERS.keys())
def test_a_copy_does_the_same(options: dict[str, Any], copier: Copier) -> None:
    tensor = torch.randn(8, 64)
    quantizer = calibrated(tensor, **options)
    twin = copier(quantizer)
    assert repr(twin) == repr(quantizer)
    assert torch.equal(twin.maxval, quantizer.maxval)
    assert torch.equal(twin(tensor), quantizer(tensor))
    assert twin.get_encodings().has_unit_scale == quantizer.get_encodings().has_unit_scale


@QUANTIZERS
def test_a_loaded_quantizer_calibrates_as_one_made_so(options: dict[str, Any]) -> None:
    tensor = torch.randn(8, 64)
    loaded = saved_and_loaded(calibrated(tensor, **options))
    with loaded.compute_encodings():
        loaded(tensor * 3)
    assert torch.equal(loaded.maxval, calibrated(tensor * 3, **options).maxval)


def test_a_state_dict_is_not_changed_by_loading() -> None:
    state = calibrated(torch.randn(8)).state_dict()
    for _ in range(2):
        quantizer = FloatQuantizeDequantize(dtype=torch.float16)
        quantizer.load_state_dict(state)
        assert quantizer.float_type == FLOAT8_E4M3FN


def test_a_state_dict_without_extra_state_sets_the_range() -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.float8_e4m3fn)
    quantizer.load_state_dict({"maxval": torch.tensor(3.0)})
    assert quantizer.maxval == 3.0
    assert not quantizer.get_encodings().has_unit_scale


def test_it_loads_inside_a_model() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(FloatQuantizeDequantize(dtype=torch.float8_e5m2, shape=(4, 1)))

    trained, fresh, tensor = make(), make(), torch.randn(4, 4)
    with trained[0].compute_encodings():
        trained(tensor)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(tensor), trained(tensor))


def write_in_place(quantizer: FloatQuantizeDequantize) -> None:
    quantizer.maxval.fill_(3.0)


def replace_buffer(quantizer: FloatQuantizeDequantize) -> None:
    quantizer.maxval = torch.tensor(3.0)


def calibrate(quantizer: FloatQuantizeDequantize) -> None:
    quantizer.calibrate(torch.tensor([-3.0]))


def calibrate_in_inference_mode(quantizer: FloatQuantizeDequantize) -> None:
    with torch.inference_mode():
        quantizer.calibrate(torch.tensor([-3.0]))


@pytest.mark.parametrize("change", [write_in_place, replace_buffer, calibrate, calibrate_in_inference_mode])
def test_every_way_to_set_the_range_is_noticed(change: Callable[[FloatQuantizeDequantize], None]) -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.float8_e4m3fn)
    assert quantizer.get_encodings().has_unit_scale
    change(quantizer)
    assert not quantizer.get_encodings().has_unit_scale
    assert quantizer(torch.tensor([9.0])).item() == 3.0


@pytest.mark.slow
@QUANTIZERS
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_it_does_the_same_and_notices_calibration(options: dict[str, Any]) -> None:
    tensor = torch.randn(8, 64)
    quantizer = calibrated(tensor, **options)
    compiled = torch.compile(quantizer, fullgraph=True)
    assert torch.equal(compiled(tensor), quantizer(tensor))
    quantizer.calibrate(tensor * 3)
    assert torch.equal(compiled(tensor), quantizer(tensor))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_a_quantizer_compiled_before_calibration_notices_it() -> None:
    quantizer, tensor = FloatQuantizeDequantize(dtype=torch.float8_e4m3fn), torch.randn(64)
    compiled = torch.compile(quantizer, fullgraph=True)
    before = compiled(tensor)
    quantizer.calibrate(tensor)
    assert torch.equal(compiled(tensor), quantizer(tensor))
    assert not torch.equal(compiled(tensor), before)


def test_a_fresh_float16_neither_multiplies_nor_divides() -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.float16)
    with torch.profiler.profile() as profile:
        quantizer(torch.randn(8))
    ops = {event.key for event in profile.key_averages()}
    assert quantizer.float_type == FLOAT16
    assert ops & {"aten::mul", "aten::mul_", "aten::div", "aten::div_"} == set()
