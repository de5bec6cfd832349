"""Parts of the data, seen apart and merged, are the whole: in any order and grouping."""

import copy
import functools
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fxquant
from fxquant.calibration.checkpoint import Checkpoint
from fxquant.calibration.merging import Part, _read, _written
from fxquant.calibration.statistics import Statistics
from fxquant.calibration.tensor_statistics import Kind
from fxquant.errors import StatisticsError

BATCHES = [torch.randn(5, 4, generator=torch.Generator().manual_seed(n)) * 3.0 ** (n - 4) for n in range(8)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Round alike in all of them, whatever else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def part(number):
    model = copy.deepcopy(prepared())
    return Part(statistics=fxquant.collect_statistics(model, [BATCHES[number]], ["mse"]), numbers={number})


@functools.cache
def prepared():
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    return fxquant.prepare(torch.nn.Sequential(*layers).eval(), target="onnxruntime")


@functools.cache
def whole():
    return bits(fxquant.collect_statistics(copy.deepcopy(prepared()), BATCHES, ["mse"]))


def bits(statistics):
    """Return statistics as bytes, tensors in the order of their names."""
    values = statistics.to_dict()
    values["tensors"] = dict(sorted(values["tensors"].items()))
    values["like"] = dict(sorted(values["like"].items()))
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def empty():
    return Part(statistics=Statistics([Kind.HISTOGRAM]))


@settings(max_examples=30)
@given(order=st.permutations(range(len(BATCHES))), seed=st.randoms(use_true_random=False))
def test_any_order_and_grouping_gives_the_whole_to_the_last_bit(order, seed):
    parts = [copy.deepcopy(part(number)) for number in order] + [empty()]
    while len(parts) > 1:
        other = parts.pop(seed.randrange(len(parts)))
        parts[seed.randrange(len(parts))].merge(other)
    found = _read(_written(parts[0]))
    assert found.numbers == set(range(len(BATCHES)))
    assert bits(found.statistics) == whole()


def test_batch_that_two_processes_have_seen_is_an_error():
    with pytest.raises(StatisticsError, match="Two processes have seen batch 1"):
        copy.deepcopy(part(1)).merge(copy.deepcopy(part(1)))


def kept(folder, rank, world_size, *numbers):
    """Leave the checkpoint of a process that has seen batches."""
    seen = empty()
    for number in numbers:
        seen.merge(copy.deepcopy(part(number)))
    with Checkpoint(fingerprint="a model", path=folder / "kept", rank=rank, world_size=world_size).keeping(
        seen
    ):
        pass


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_checkpoint_of_three_goes_on_with_any_number_of_processes(tmp_path, world_size):
    kept(tmp_path, 0, 3, 0, 3)
    kept(tmp_path, 1, 3, 1)
    parts = [empty() for _ in range(world_size)]
    for rank, own in enumerate(parts):
        seen = Checkpoint(
            fingerprint="a model", path=tmp_path / "kept", rank=rank, world_size=world_size
        ).resume(own)
        assert seen == {0, 1, 3}
    merged = empty()
    for own in parts:
        merged.merge(own)
    assert merged.numbers == {0, 1, 3}
    Checkpoint(fingerprint="a model", path=tmp_path / "kept").finish(merged)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert fxquant.load_statistics(tmp_path / "kept").num_batches == 3


def test_file_that_another_one_holds_already_counts_once(tmp_path):
    kept(tmp_path, 1, 3, 1)
    kept(tmp_path, 0, 1, 0, 1, 2)  # a run on one process took it in before it ended
    own = empty()
    assert Checkpoint(fingerprint="a model", path=tmp_path / "kept").resume(own) == {0, 1, 2}
    assert own.statistics.num_batches == 3


def test_files_that_overlap_are_an_error(tmp_path):
    kept(tmp_path, 0, 3, 0, 3)
    kept(tmp_path, 0, 2, 0, 2)
    with pytest.raises(StatisticsError, match="have both seen batch 0"):
        Checkpoint(fingerprint="a model", path=tmp_path / "kept").resume(empty())


def test_other_number_of_processes_with_data_of_their_own_is_an_error(tmp_path):
    kept(tmp_path, 0, 3, 0, 3)
    with pytest.raises(StatisticsError, match="is of another number of processes"):
        Checkpoint(fingerprint="a model", path=tmp_path / "kept", world_size=2, is_shared=False).resume(
            empty()
        )


def test_file_that_holds_something_else_is_an_error(tmp_path):
    (tmp_path / "kept").write_bytes(b"nothing")
    with pytest.raises(StatisticsError, match="cannot be read as statistics"):
        Checkpoint(fingerprint="a model", path=tmp_path / "kept").resume(empty())
