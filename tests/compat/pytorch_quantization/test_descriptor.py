"""QuantDescriptor: defaults, checks, and the way to text and back."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor, ScaledQuantDescriptor
from fxquant.errors import FxQuantError

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "num_bits": st.integers(1, 16) | st.just((4, 3)),
        "name": st.text("abc: #-", min_size=1),
        "fake_quant": st.booleans(),
        "axis": st.integers(-4, 4) | st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "amax": st.floats(0, 2.0**40, width=32) | st.lists(st.floats(0, 8, width=32), min_size=1),
        "scale_amax": st.floats(0.5, 1),
        "unsigned": st.booleans(),
    },
)
REFUSED = {
    "amax-text": ({"amax": "oops"}, TypeError, "amax must be float, list or ndarray"),
    "amax-bool": ({"amax": True}, TypeError, "amax must be float, list or ndarray"),
    "learned-axis": (
        {"axis": 1, "amax": 0.7, "learn_amax": True},
        TypeError,
        "axis is ignored and must be None",
    ),
    "negative-bits": ({"num_bits": -1}, ValueError, "num_bits must be >= 0, not -1"),
    "other-floats": ({"num_bits": (5, 2)}, TypeError, r"must be \(4, 3\)"),
    "bits-of-text": ({"num_bits": "8"}, TypeError, "num_bits must be an integer"),
    "name": ({"name": 3}, TypeError, "name must be a string"),
    "unknown": ({"mode": 1, "bits": 2}, TypeError, "Unused keys: bits, mode"),
}


def test_defaults_are_nvidias():
    descriptor = QuantDescriptor()
    assert (descriptor.num_bits, descriptor.name, descriptor.axis, descriptor.amax) == (8, None, None, None)
    assert descriptor.fake_quant
    assert [descriptor.learn_amax, descriptor.unsigned, descriptor.narrow_range] == [False] * 3
    assert (descriptor.scale_amax, descriptor.calib_method) == (None, "max")
    assert QuantDescriptor is ScaledQuantDescriptor


@pytest.mark.parametrize("amax", [1.2, [1.3, 1.4], np.array([1.5]), np.float64(1.6), 3], ids=repr)
def test_amax_is_an_array_of_float32(amax):
    found = QuantDescriptor(amax=amax).amax
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32(amax))


@pytest.mark.parametrize(("options", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(options, error, match):
    with pytest.raises(error, match=match) as info:
        QuantDescriptor(**options)
    assert isinstance(info.value, FxQuantError)


def test_zero_bits_are_logged(caplog):
    with caplog.at_level(logging.ERROR):
        assert QuantDescriptor(0).num_bits == 0
    assert "num_bits is 0" in caplog.text


def test_properties_cannot_be_set():
    with pytest.raises(AttributeError):
        QuantDescriptor().num_bits = 4


@given(options=OPTIONS)
def test_dict_and_yaml_lead_back_to_an_equal_descriptor(options):
    descriptor = QuantDescriptor(**options)
    assert QuantDescriptor(**descriptor.dict()) == descriptor
    assert QuantDescriptor.from_yaml(descriptor.to_yaml()) == descriptor
    assert copy.deepcopy(descriptor) == pickle.loads(pickle.dumps(descriptor)) == descriptor
    assert hash(copy.deepcopy(descriptor)) == hash(descriptor)


@given(first=OPTIONS, second=OPTIONS)
def test_descriptors_are_equal_when_their_options_are(first, second):
    one, other = QuantDescriptor(**first), QuantDescriptor(**second)
    assert (one == other) == (one.dict() == other.dict())


def test_dict_holds_what_differs_from_the_defaults_but_for_two_options():
    descriptor = QuantDescriptor(4, amax=0.5, calib_method="histogram", narrow_range=True)
    assert descriptor.dict() == {"num_bits": 4, "amax": 0.5}
    assert QuantDescriptor().dict() == {}
    assert descriptor != QuantDescriptor(4, amax=0.5)


def test_yaml_is_plain():
    text = QuantDescriptor((4, 3), "a", axis=(1, 2), amax=[1.0, 2.0]).to_yaml()
    assert text == "amax:\n- 1.0\n- 2.0\naxis:\n- 1\n- 2\nname: a\nnum_bits:\n- 4\n- 3\n"


@pytest.mark.parametrize(
    "text", ["{", "- 1", "!!python/object/apply:os.getcwd []"], ids=["broken", "list", "code"]
)
def test_text_of_another_kind_is_refused(text):
    with pytest.raises(ValueError, match="The descriptor is"):
        QuantDescriptor.from_yaml(text)


def test_a_descriptor_is_no_other_object():
    assert QuantDescriptor() != {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "(8bit fake per-tensor amax=dynamic calib_method=max)"),
        (
            {"num_bits": 4, "unsigned": True, "axis": 0, "fake_quant": False, "narrow_range": True},
            "(unsigned 4bit narrow real axis=0 amax=dynamic calib_method=max)",
        ),
        (
            {"amax": 1.5, "scale_amax": 0.9, "learn_amax": True, "calib_method": "histogram"},
            "(8bit fake per-tensor amax=1.5 *0.9 learned calib_method=histogram)",
        ),
    ],
    ids=["default", "real", "learned"],
)
def test_a_descriptor_says_what_it_asks_for(options, text):
    assert str(QuantDescriptor(**options)) == text


def test_no_bits_make_every_number_amax_as_the_log_says(caplog: pytest.LogCaptureFixture) -> None:
    quantizer = TensorQuantizer(QuantDescriptor(num_bits=0, amax=2.0))
    assert quantizer(torch.tensor([-3.0, 0.5, 1.0])).tolist() == [2.0, 2.0, 2.0]
    assert "becomes amax" in caplog.text
