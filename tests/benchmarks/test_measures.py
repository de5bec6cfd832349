"""The measuring code runs, on the smallest jobs, and gives every method a figure."""

import pytest
import torch
from torch import nn

from benchmarks import calibration, calibrators, growth, memory
from fxquant.calibration import METHODS


@pytest.mark.slow
def test_calibration_of_a_model_is_measured_by_every_method() -> None:
    row = calibration.measure_model("mobilenet_v2", num_batches=1, rounds=1)
    assert all(float(row[method]) > 0 for method in METHODS)


@pytest.mark.slow
def test_peak_memory_of_the_job_is_above_that_of_the_forwards() -> None:
    row = memory.measure_model("mobilenet_v2")
    assert float(row["minmax"]) > 1


@pytest.mark.slow
def test_growth_has_a_row_per_size_and_their_exponent() -> None:
    axis = growth.Axis(
        name="batches", sizes=(1, 64), job=lambda size: (nn.Linear(4, 4), torch.randn(2, 4), size)
    )
    rows = growth.measure_axis(axis)
    assert [row["size"] for row in rows] == ["1", "64", growth.EXPONENT]
    assert 0 < float(rows[-1]["minmax"]) < 1.2  # below 1 for what a call costs whatever its batches
    assert float(rows[-1]["prepare"]) < 0.3  # it never sees them


def test_search_for_amax_is_measured_against_its_definition() -> None:
    row = calibrators.measure_method("mse", num_bins=200, num_channels=3)
    assert float(row["definition, ms"]) > float(row["tensor, ms"]) > 0
