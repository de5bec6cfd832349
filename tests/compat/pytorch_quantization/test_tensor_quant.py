"""tensor_quant: every function against numpy's float32, to the last bit, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from fxquant.compat.pytorch_quantization import tensor_quant
from fxquant.errors import FxQuantError
from tests.compat.pytorch_quantization import statements

FAKE = pytest.mark.parametrize(
    "function",
    [tensor_quant.fake_tensor_quant, tensor_quant.legacy_fake_tensor_quant],
    ids=["fake", "legacy"],
)
PREDEFINED = {
    "8BIT_PER_TENSOR": None,
    "UNSIGNED_8BIT_PER_TENSOR": None,
    "8BIT_CONV1D_WEIGHT_PER_CHANNEL": 0,
    "8BIT_CONV2D_WEIGHT_PER_CHANNEL": 0,
    "8BIT_CONV3D_WEIGHT_PER_CHANNEL": 0,
    "8BIT_LINEAR_WEIGHT_PER_ROW": 0,
    "8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL": 1,
    "8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL": 1,
    "8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL": 1,
}


def tensor(array):
    return torch.from_numpy(np.array(array))


@FAKE
@given(data=st.data(), grid=statements.grids())
def test_fake_quantization_is_numpys_to_the_last_bit(function, data, grid):
    x, amax = data.draw(statements.tensors(grid[1])), data.draw(statements.amaxes())
    found = function(tensor(x), tensor(amax), *grid)
    np.testing.assert_array_equal(found.numpy(), statements.fake(x, amax, *grid))


@given(data=st.data(), grid=statements.grids())
def test_codes_and_scale_are_numpys_to_the_last_bit(data, grid):
    x, amax = data.draw(statements.tensors(grid[1])), data.draw(statements.amaxes())
    codes, scale = tensor_quant.tensor_quant(tensor(x), tensor(amax), *grid)
    wanted_codes, wanted_scale = statements.codes_and_scale(x, amax, *grid)
    np.testing.assert_array_equal(codes.numpy(), wanted_codes)
    np.testing.assert_array_equal(scale.numpy(), wanted_scale)


@FAKE
@given(data=st.data(), grid=statements.grids())
def test_values_with_a_gradient_are_those_without(function, data, grid):
    x, amax = tensor(data.draw(statements.tensors(grid[1]))), tensor(data.draw(statements.amaxes()))
    trained = x.clone().requires_grad_()
    assert torch.equal(function(trained, amax, *grid), function(x, amax, *grid))


@pytest.mark.parametrize(
    "function",
    [
        tensor_quant.fake_tensor_quant,
        tensor_quant.legacy_fake_tensor_quant,
        lambda x, amax: tensor_quant.tensor_quant(x, amax)[0],
        tensor_quant.scaled_e4m3,
        lambda x, amax: tensor_quant.fake_affine_tensor_quant(x, -amax, amax),
    ],
    ids=["fake", "legacy", "codes", "e4m3", "affine"],
)
def test_gradient_passes_up_to_amax_and_amax_gets_none(function):
    amax = torch.tensor(1.5, requires_grad=True)
    above = torch.nextafter(torch.tensor(1.5), torch.tensor(2.0)).item()
    x = torch.tensor([-2.0, -above, -1.5, -0.3, 0.0, 1.5, above, torch.nan], requires_grad=True)
    gradient = torch.arange(1.0, 9.0)
    function(x, amax).backward(gradient)
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]
    assert amax.grad is None


def test_large_tensors_are_cut_into_pieces_without_a_difference():
    x, amax = torch.randn(8, 3, 256, 256), torch.tensor([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1)
    trained = x.clone().requires_grad_()
    found = tensor_quant.fake_tensor_quant(trained, amax)
    found.backward(torch.ones_like(x))
    assert torch.equal(found, tensor_quant.fake_tensor_quant(x, amax))
    assert torch.equal(trained.grad, (x.abs() <= amax).float())


def test_e4m3_without_amax_passes_gradients_up_to_448():
    x = torch.tensor([-449.0, -448.0, 3.0, 448.0, 450.0], requires_grad=True)
    tensor_quant.scaled_e4m3(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


@given(data=st.data())
def test_e4m3_is_torchs_cast_of_the_scaled_values(data):
    x = data.draw(statements.tensors())
    amax = data.draw(statements.amaxes(2.0**-20))
    found = tensor_quant.scaled_e4m3(tensor(x), tensor(amax))
    np.testing.assert_array_equal(found.numpy(), statements.fake_e4m3(x, amax))


def test_e4m3_of_an_empty_range_is_zero():
    assert tensor_quant.scaled_e4m3(torch.zeros(3), torch.tensor(0.0)).tolist() == [0, 0, 0]


@given(
    x=statements.tensors(), ends=st.tuples(st.floats(-1000, 0, width=32), st.floats(2.0**-6, 1000, width=32))
)
def test_affine_quantization_is_numpys_to_the_last_bit(x, ends):
    low, high = map(np.float32, ends)
    step = (high - low) / np.float32(255)
    zero = np.rint(low / step) + np.float32(128)
    wanted = (np.clip(np.rint(x / step) - zero, -128, 127) + zero) * step
    found = tensor_quant.fake_affine_tensor_quant(tensor(x), tensor(low), tensor(high))
    near = np.abs(x / step) < 2**22  # beyond, subtracting the zero point rounds; both clamp to an end
    np.testing.assert_array_equal(found.numpy()[near], wanted[near])
    np.testing.assert_array_equal(found.numpy() > 0, wanted > 0)


@FAKE
def test_float16_is_computed_in_float32(function):
    x = torch.linspace(-2, 2, 1001).half()
    amax = torch.tensor(1e-4).half()
    wanted = statements.fake(x.float().numpy(), amax.float().numpy(), 8, False, True)
    assert torch.equal(function(x, amax), tensor(wanted).half())


def test_bfloat16_is_computed_in_float32_but_by_the_legacy_function():
    x = torch.linspace(-2, 2, 1001).bfloat16()
    amax = torch.tensor(0.7)
    wanted = tensor(statements.fake(x.float().numpy(), amax.numpy(), 11, False, True)).bfloat16()
    assert torch.equal(tensor_quant.fake_tensor_quant(x, amax, 11), wanted)
    scale = (1023 / amax).bfloat16()
    rounded = (x * scale).round().clamp(-1023, 1023) / scale
    assert torch.equal(tensor_quant.legacy_fake_tensor_quant(x, amax, 11), rounded)


@FAKE
def test_float64_stays_float64(function):
    x = torch.randn(1001, dtype=torch.float64)
    amax = x.abs().max()
    scale = 127 / amax.numpy()
    wanted = np.clip(np.rint(x.numpy() * scale), -127, 127) / scale
    np.testing.assert_array_equal(function(x, amax).numpy(), wanted)


@FAKE
def test_integers_give_float32(function):
    x = torch.arange(-3, 4)
    wanted = statements.fake(x.numpy(), np.float32(2), 8, False, True)
    found = function(x, torch.tensor(2.0))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found, wanted)
    codes, _ = tensor_quant.tensor_quant(x, torch.tensor(2.0))
    assert codes.tolist() == [-127, -127, -64, 0, 64, 127, 127]


def test_amax_may_be_a_number():
    x = torch.randn(10)
    assert torch.equal(
        tensor_quant.fake_tensor_quant(x, 0.5), tensor_quant.fake_tensor_quant(x, torch.tensor(0.5))
    )


def test_fake_tensors_are_quantized_without_a_look_at_them():
    with FakeTensorMode():
        assert tensor_quant.fake_tensor_quant(torch.ones(2, 3), torch.ones(()), 8, True).shape == (2, 3)


def test_strided_tensors_are_quantized_as_their_copies_are():
    x = torch.randn(4, 5, 6)[:, 2, ::2]
    amax = torch.tensor(1.0)
    assert not x.is_contiguous()
    assert torch.equal(
        tensor_quant.fake_tensor_quant(x, amax), tensor_quant.fake_tensor_quant(x.contiguous(), amax)
    )
    assert torch.equal(tensor_quant.scaled_e4m3(x, amax), tensor_quant.scaled_e4m3(x.contiguous(), amax))


@pytest.mark.parametrize(
    "function",
    [tensor_quant.tensor_quant, tensor_quant.fake_tensor_quant, tensor_quant.legacy_fake_tensor_quant],
    ids=["codes", "fake", "legacy"],
)
class TestRefusals:
    def test_negative_values_have_no_unsigned_code(self, function):
        with pytest.raises(TypeError, match="Negative values encountered in unsigned quantization") as info:
            function(torch.tensor([-1.0, 1.0]), torch.tensor(1.0), 8, True)
        assert isinstance(info.value, FxQuantError)

    def test_amax_is_not_negative(self, function):
        with pytest.raises(ValueError, match="Negative values in amax"):
            function(torch.ones(2), torch.tensor([1.0, -1.0]))

    def test_traced_code_checks_no_values(self, function, fresh_compiler):
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        found = compiled(torch.tensor([-1.0, 1.0]), torch.tensor(1.0), 8, True)
        values = found[0] / found[1] if isinstance(found, tuple) else found
        assert values.tolist() == [0, 1]


def test_scale_beyond_float16_is_refused():
    with pytest.raises(ValueError, match="scale is too large for FP16 with amax="):
        tensor_quant.tensor_quant(torch.randn(8).half(), torch.tensor(1e-4).half())


def test_other_float_types_are_not_supported():
    with pytest.raises(NotImplementedError, match="Only E=4 and M=3"):
        tensor_quant.scaled_e4m3(torch.ones(2), None, 5, 2)


@pytest.mark.parametrize(("name", "axis"), PREDEFINED.items(), ids=PREDEFINED)
def test_predefined_descriptors_keep_the_axis_of_output_channels(name, axis):
    descriptor = getattr(tensor_quant, f"QUANT_DESC_{name}")
    unsigned = name.startswith("UNSIGNED")
    assert descriptor == tensor_quant.QuantDescriptor(num_bits=8, axis=axis, unsigned=unsigned)


@pytest.mark.cuda
def test_nothing_is_checked_where_the_host_would_wait():
    x = torch.tensor([-1.0, 1.0], device="cuda")
    assert tensor_quant.fake_tensor_quant(x, torch.ones((), device="cuda"), 8, True).tolist() == [0, 1]
