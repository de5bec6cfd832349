import os

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import fxquant
from fxquant.calibration import as_batches, sharded
from fxquant.errors import BatchError


class Broken(Dataset):
    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 4:
            self.fault()
        return torch.rand(3)


def is_corrupt():
    raise OSError("truncated image")


def is_killed():
    os._exit(1)


def run(fault, workers):
    return list(as_batches(DataLoader(Broken(fault), batch_size=2, num_workers=workers)))


def test_error_in_a_data_set_names_the_batch():
    with pytest.raises(BatchError, match="Batch 2 could not be loaded: OSError: truncated image"):
        fxquant.calibrate(fxquant.prepare(nn.Linear(3, 2)), DataLoader(Broken(is_corrupt), batch_size=2))


def test_error_in_a_worker_names_the_batch_and_what_was_raised():
    with pytest.raises(BatchError, match=r"Batch 2 could not be loaded: .*OSError: truncated image"):
        run(is_corrupt, workers=1)


@pytest.mark.slow
def test_worker_that_dies_names_the_batch():
    # torch raises as soon as the worker is gone, maybe while batches that it left are taken
    with pytest.raises(BatchError, match=r"Batch [012] could not be loaded: .*exited unexpectedly"):
        run(is_killed, workers=1)


def test_workers_load_a_part_as_the_loader_itself_does():
    loader = DataLoader(torch.arange(12.0), batch_size=2, num_workers=2)
    whole = [batch.tolist() for batch in as_batches(loader)]
    assert [batch.tolist() for batch in sharded(loader, 1, 2)] == whole[1::2]
