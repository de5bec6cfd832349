"""reduce_amax: numpy's maximum of magnitudes, but for shapes of one number."""

import numpy as np
import pytest
import torch

from fxquant.compat.pytorch_quantization import utils
from fxquant.compat.pytorch_quantization.utils.reduce_amax import kept_amax


@pytest.mark.parametrize("keepdims", [True, False], ids=["kept", "dropped"])
@pytest.mark.parametrize("axis", [0, -1, (1, 2), (0, 2, 3), [1, 3], (-1, 0)], ids=str)
def test_magnitudes_are_numpys(axis, keepdims):
    x = torch.randn(3, 4, 5, 6) - 1
    wanted = np.max(np.abs(x.numpy()), tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    found = utils.reduce_amax(x, axis, keepdims)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("axis", [None, (0, 1), (0,), 1], ids=str)
def test_one_number_has_no_axes(axis):
    x = torch.tensor([[-3.0]])
    assert utils.reduce_amax(x, axis).shape == ()
    assert utils.reduce_amax(x, axis) == 3


def test_no_axis_to_reduce_leaves_magnitudes():
    x = torch.randn(2, 3)
    assert torch.equal(utils.reduce_amax(x, ()), x.abs())
    assert torch.equal(kept_amax(x, (0, 1)), x.abs())


def test_more_axes_than_there_are_is_refused():
    with pytest.raises(ValueError, match="Cannot reduce more axes"):
        utils.reduce_amax(torch.ones(2, 3), (0, 1, 2))


@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 1, 1)), (-1, (1, 1, 4)), ((0, -2), (2, 3, 1))], ids=str)
def test_axes_kept_are_the_others(axis, shape):
    assert kept_amax(torch.randn(2, 3, 4), axis).shape == shape


def test_nan_and_infinity_show():
    assert utils.reduce_amax(torch.tensor([1.0, torch.nan])).isnan()
    assert utils.reduce_amax(torch.tensor([1.0, -torch.inf])) == torch.inf
