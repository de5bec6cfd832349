import numpy as np
import pytest
import torch
from torch import nn

import fxquant
from fxquant.errors import BatchError

ROWS = np.arange(80.0).reshape(40, 2)


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / "named.npz", input=ROWS, label=np.arange(40))
    np.savez(tmp_path / "unnamed.npz", ROWS, np.arange(40))
    np.savez(tmp_path / "constant.npz", input=ROWS, scale=np.float32(2))
    np.savez(tmp_path / "uneven.npz", input=ROWS, label=np.arange(3))
    np.save(tmp_path / "array.npy", ROWS)
    (tmp_path / "junk.npz").write_text("junk")
    (tmp_path / "junk.npy").write_text("junk")
    return tmp_path


@pytest.mark.parametrize("name", ["named.npz", "unnamed.npz", "array.npy"])
def test_model_is_calibrated_from_a_file(name, files):
    prepared, expected = (fxquant.prepare(nn.Linear(2, 2), target="onnxruntime") for _ in range(2))
    expected.load_state_dict(prepared.state_dict())
    fxquant.calibrate(prepared, str(files / name))
    fxquant.calibrate(expected, [torch.from_numpy(ROWS).float()])
    assert torch.equal(prepared.quantizers.input.get_max(), expected.quantizers.input.get_max())


def test_file_is_cut_into_batches_of_32_rows_unless_told_otherwise(files):
    path = files / "named.npz"
    assert [len(batch["input"]) for batch in fxquant.Batches(path)] == [32, 8]
    assert [len(batch["input"]) for batch in fxquant.Batches(path, batch_size=20)] == [20, 20]


def test_loaded_file_is_taken_like_its_path(files):
    with np.load(files / "unnamed.npz") as arrays:
        assert [len(batch[0]) for batch in fxquant.Batches(arrays, batch_size=20)] == [20, 20]


def test_array_without_dimensions_goes_into_every_batch(files):
    assert [batch["scale"] for batch in fxquant.Batches(files / "constant.npz")] == [2, 2]


def test_array_file_is_not_read_whole(files):
    (first, _) = fxquant.Batches(files / "array.npy")
    assert isinstance(first.base, np.memmap)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("missing.npz", "does not hold batches: .*No such file", id="missing"),
        pytest.param("junk.npz", "does not hold batches", id="junk"),
        pytest.param("junk.npy", "does not hold batches", id="junk array"),
        pytest.param("images.zip", "is no data", id="other file"),
        pytest.param("uneven.npz", "arrays of 40 and 3 rows", id="uneven"),
    ],
)
def test_file_without_batches_is_refused(name, message, files):
    with pytest.raises(BatchError, match=message):
        list(fxquant.Batches(files / name))
