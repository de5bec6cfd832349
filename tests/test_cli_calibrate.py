"""The calibrate command, on one process and under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import fxquant
from fxquant.calibration.sites import activation_sites
from fxquant.cli import main
from tests import digits

ROOT = Path(__file__).parents[1]
MODEL = "examples.digits.model:load_trained"
METHODS = ("--method", "mse", "--override", "block1.*=percentile:99.9")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def batches(tmp_path):
    path = tmp_path / "batches.npz"
    np.savez(path, x=digits.split().train_images[:60].numpy())
    return path


def arguments(batches, out, *more):
    where = ("--target", "onnxruntime", "--batch-size", "8", "--out", out)
    return [str(argument) for argument in ("calibrate", MODEL, batches, *where, *METHODS, *more)]


def torchrun(*command, options=("--standalone", "--nproc-per-node", "2")):
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "fxquant", *command],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranges(folder):
    prepared = torch.load(folder / "prepared.pt", weights_only=False)
    return {
        site.name: (site.quantizer.min.item(), site.quantizer.max.item())
        for site in activation_sites(prepared)
    }


def test_calibrate_writes_statistics_and_the_model(batches, tmp_path):
    result = CliRunner().invoke(main, arguments(batches, tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert result.output.endswith("tensors in 8 batches\n")
    assert fxquant.load_statistics(tmp_path / "out" / "statistics.pt").num_batches == 8


@pytest.mark.slow
def test_quantize_takes_ranges_from_statistics(batches, tmp_path):
    CliRunner().invoke(main, arguments(batches, tmp_path / "out"))
    where = ("--target", "onnxruntime", "--batch-size", "8", *METHODS)
    for folder, more in (("1", ()), ("2", ("--statistics", tmp_path / "out" / "statistics.pt"))):
        command = ("quantize", MODEL, batches, *where, "--out", tmp_path / folder, *more)
        result = CliRunner().invoke(main, [str(argument) for argument in command])
        assert result.exit_code == 0, result.output
    files = [(tmp_path / folder / "model.encodings").read_bytes() for folder in ("1", "2")]
    assert files[0] == files[1]


def test_override_without_a_method_is_one_line(batches, tmp_path):
    result = CliRunner().invoke(main, arguments(batches, tmp_path / "out", "--override", "block1"))
    assert result.exit_code == 1
    assert "The override 'block1' names no method" in result.output


def node(rank, port):
    return (
        *("--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
    )


@pytest.fixture
def port():
    """Return a port that was free a moment ago: two agents must be told the same one."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    return store.port


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2], ids=["one node", "two nodes"])
def test_torchrun_gives_the_ranges_of_one_process(batches, tmp_path, nodes, port):
    alone = subprocess.run(
        [sys.executable, "-m", "fxquant", *arguments(batches, tmp_path / "alone")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert alone.returncode == 0, alone.stderr
    command = arguments(batches, tmp_path / "many", "--checkpoint", tmp_path / "kept")
    if nodes == 1:
        jobs = [torchrun(*command)]
    else:
        jobs = [torchrun(*command, options=node(rank, port)) for rank in range(nodes)]
    said = [job.communicate(timeout=300) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * nodes, said
    assert "".join(out for out, _ in said).count("tensors in 8 batches") == 1
    assert ranges(tmp_path / "many") == ranges(tmp_path / "alone")


@pytest.mark.slow
def test_torchrun_shows_an_error_once(batches, tmp_path):
    images = digits.split().train_images[:60].numpy().copy()
    images[12] = np.nan
    np.savez(batches, x=images)
    job = torchrun(*arguments(batches, tmp_path / "out"))
    _, errors = job.communicate(timeout=300)
    assert job.returncode != 0
    assert errors.count("Error: Rank 1: NaN or Inf in batch 1") == 1, errors
