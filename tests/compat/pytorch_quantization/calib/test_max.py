"""MaxCalibrator: the running maximum of magnitudes."""

import pytest
import torch

from fxquant.compat.pytorch_quantization import calib


@pytest.mark.parametrize(
    ("axis", "dims"), [(None, (0, 1, 2)), (0, (1, 2)), (-1, (0, 1)), ((0, 2), (1,))], ids=str
)
def test_amax_is_the_largest_magnitude_of_all_tensors(axis, dims):
    calibrator = calib.MaxCalibrator(8, axis, False, track_amax=True)
    batches = [torch.randn(3, 4, 5) for _ in range(3)]
    for batch in batches:
        calibrator.collect(batch)
    wanted = torch.stack(batches).abs().amax(0).amax(dims, keepdim=True)
    found = calibrator.compute_amax()
    assert torch.equal(found, wanted.squeeze() if axis is None else wanted)
    assert len(calibrator.amaxs) == 3
    calibrator.reset()
    assert calibrator.compute_amax() is None


def test_tensors_of_another_size_along_the_axis_are_refused():
    calibrator = calib.MaxCalibrator(8, 0, False)
    calibrator.collect(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="amax shape changed!"):
        calibrator.collect(torch.ones(3, 3))
