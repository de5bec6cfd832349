"""Loaders with workers run in a process of their own: forking one that has loaded runtimes may crash it."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import fxquant
from fxquant.errors import BatchError

SCRIPT = """
import os, torch
from torch.utils.data import DataLoader, Dataset
from fxquant import Batches
from fxquant.calibration import sharded

class Broken(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        if index == 4:
            {fault}
        return torch.tensor(float(index))

try:
    print([batch.tolist() for batch in {data}])
except Exception as error:
    print(type(error).__name__, error)
"""
LOADER = "DataLoader(Broken(), batch_size=2, num_workers=2)"


class Broken(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 4:
            raise OSError("truncated image")
        return torch.rand(3)


def printed(data, fault):
    script = SCRIPT.format(data=data, fault=fault)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120).stdout


def test_error_in_a_data_set_names_the_batch():
    with pytest.raises(BatchError, match="Batch 2 could not be loaded: OSError: truncated image"):
        fxquant.calibrate(fxquant.prepare(nn.Linear(3, 2)), DataLoader(Broken(), batch_size=2))


@pytest.mark.slow
def test_error_in_a_worker_names_the_batch_and_what_was_raised():
    found = printed(f"Batches({LOADER})", "raise OSError('truncated image')")
    assert found.startswith("BatchError Batch 2 could not be loaded: OSError: Caught OSError in DataLoader")
    assert "OSError: truncated image" in found


@pytest.mark.slow
def test_worker_that_dies_names_the_batch():
    found = printed(f"Batches({LOADER})", "os._exit(1)")
    assert found.startswith("BatchError Batch ")  # torch raises as soon as the worker is gone
    assert "exited unexpectedly" in found


@pytest.mark.slow
def test_workers_load_a_part_as_the_loader_itself_does():
    assert printed(f"sharded({LOADER}, 1, 3)", "pass") == "[[2.0, 3.0]]\n"
