from collections import namedtuple

import numpy as np
import pytest
import torch

from fxquant.calibration.samples import in_batches, is_dataset, stacked
from fxquant.errors import BatchError

Pair = namedtuple("Pair", "image label")
X = torch.ones(2)


def test_samples_are_stacked_in_containers_of_their_own_kind():
    samples = [{"x": X, "pair": Pair(np.float64(0.5), 1), "list": [True], "absent": None}] * 3
    found = stacked(samples)
    assert torch.equal(found["x"], torch.ones(3, 2))
    assert found["pair"].image.tolist() == [0.5] * 3
    assert found["pair"].label.tolist() == [1] * 3
    assert found["list"][0].tolist() == [True] * 3
    assert found["absent"] is None


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([X, torch.ones(3)], id="sizes"),
        pytest.param([np.ones(2), np.ones(3)], id="sizes of arrays"),
        pytest.param([(X,), (X, X)], id="lengths"),
        pytest.param([{"x": X}, {"y": X}], id="keys"),
        pytest.param([X, 1.0], id="types"),
        pytest.param([object()], id="objects"),
    ],
)
def test_samples_that_do_not_stack_are_refused_with_a_way_out(samples):
    with pytest.raises(BatchError, match=r"cannot be stacked.*collate="):
        stacked(samples)


class Fetching:
    """A data set that fetches several samples at once, such as those of the package datasets."""

    def __init__(self):
        self.fetched = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise AssertionError("one at a time")

    def __getitems__(self, indices):
        self.fetched.append(indices)
        return [{"x": index} for index in indices]


def test_samples_are_fetched_together_where_the_data_set_can():
    data = Fetching()
    assert is_dataset(data)
    found = list(in_batches(data, 2, None).run(1, None, 1))
    assert [batch["x"].tolist() for batch in found] == [[2, 3], [4]]
    assert data.fetched == [[2, 3], [4]]
