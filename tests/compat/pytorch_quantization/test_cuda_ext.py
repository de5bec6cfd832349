"""cuda_ext: the kernels' arithmetic, in float32 for every type."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.compat.pytorch_quantization import cuda_ext
from tests.compat.pytorch_quantization import statements

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)


@given(data=st.data(), grid=statements.grids())
def test_one_amax_is_the_kernels_formula_to_the_last_bit(data, grid):
    x, amax = data.draw(statements.tensors(grid[1])), data.draw(statements.amaxes()).reshape(-1)[:1]
    wanted = statements.fake(x, amax, *grid, is_empty=np.less)
    inputs = torch.from_numpy(x.copy())
    found = cuda_ext.fake_tensor_quant(inputs, torch.from_numpy(amax), *grid)
    np.testing.assert_array_equal(found.numpy(), wanted)
    assert cuda_ext.fake_tensor_quant_(inputs, torch.from_numpy(amax), *grid) is None
    np.testing.assert_array_equal(inputs.numpy(), wanted)


@given(data=st.data(), grid=statements.grids(), axis=st.sampled_from([0, 1, -1]))
def test_an_axis_is_one_tensor_after_the_other(data, grid, axis):
    x = torch.from_numpy(data.draw(statements.tensors(grid[1])))
    amax = torch.rand(x.shape[axis]) + 0.1
    found = cuda_ext.fake_tensor_quant_with_axis(x, amax, axis, *grid)
    wanted = [
        cuda_ext.fake_tensor_quant(part, a, *grid) for part, a in zip(x.unbind(axis), amax, strict=True)
    ]
    assert torch.equal(found, torch.stack(wanted, axis))


def test_a_range_is_empty_below_the_smallest_float16_and_not_at_it():
    x = torch.full((2, 2), 2.0**-24)
    amax = torch.tensor([2.0**-24, 1e-26])
    found = cuda_ext.fake_tensor_quant_with_axis(x, amax, 1)
    assert found.tolist() == [[2.0**-24, 0], [2.0**-24, 0]]


@DTYPES
def test_every_type_is_computed_in_float32(dtype):
    x = torch.linspace(-2, 2, 1001).to(dtype)
    wanted = statements.fake(x.float().numpy(), np.float32(0.7), 11, False, False)
    found = cuda_ext.fake_tensor_quant(x, torch.tensor(0.7), 11, False, False)
    assert torch.equal(found, torch.from_numpy(wanted).to(dtype))


@DTYPES
def test_e4m3_saturates(dtype):
    x = torch.tensor([-1e4, -0.3, 0.0, 2.0**-25, 0.2, 17.0, 1e4], dtype=dtype)
    assert cuda_ext.fake_e4m3fy(x).tolist() == [-448, -0.3125, 0, 0, 0.203125, 16, 448]


def test_nothing_is_checked_and_nothing_has_a_gradient():
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    found = cuda_ext.fake_tensor_quant(x, torch.tensor(1.0), 8, True)
    assert found.tolist() == [0, 1]
    assert not found.requires_grad


def test_amax_that_does_not_fit_is_refused():
    x = torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="takes one amax, not 3"):
        cuda_ext.fake_tensor_quant(x, torch.ones(3))
    with pytest.raises(RuntimeError, match=r"3 amax do not fit axis 0 of inputs of shape \(2, 3\)"):
        cuda_ext.fake_tensor_quant_with_axis(x, torch.ones(3), 0)
