import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import fxquant
from fxquant.calibration import batch_call, example_call
from fxquant.errors import BatchError

ROWS = np.ones((2, 3))


@pytest.mark.parametrize("inputs", [ROWS, (ROWS,), {"input": ROWS}], ids=["array", "tuple", "dict"])
def test_example_inputs_may_be_arrays(inputs):
    (tensor,) = example_call(nn.Linear(3, 2), inputs).tensors()
    assert torch.equal(tensor, torch.ones(2, 3))


def test_prepare_takes_arrays():
    assert fxquant.prepare(nn.Linear(3, 2), ROWS)(torch.ones(2, 3)).shape == (2, 2)


def test_packed_sequence_is_one_argument():
    packed = pack_sequence([torch.rand(3, 2), torch.rand(1, 2)])
    assert example_call(nn.GRU(2, 2), packed).args == (packed,)
    assert batch_call(nn.GRU(2, 2), packed).args == (packed,)


LISTS = [[1.0, 1.0, 1.0]] * 2


@pytest.mark.parametrize("batch", [LISTS, (LISTS,), {"input": LISTS}], ids=["list", "tuple", "dict"])
def test_batch_may_hold_lists_of_numbers(batch):
    (tensor,) = batch_call(nn.Linear(3, 2), batch).tensors()
    assert torch.equal(tensor, torch.ones(2, 3))


def test_example_inputs_that_do_not_fit_name_the_parameters():
    with pytest.raises(BatchError, match=r"forward\(input\)"):
        example_call(nn.Linear(3, 2), (ROWS, ROWS))
