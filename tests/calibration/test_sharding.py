import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset

from fxquant import Batches
from fxquant.calibration import as_batches, sharded
from fxquant.errors import OptionError

SAMPLES = torch.arange(11.0)


class Counted(Dataset):
    """Samples that are their own numbers, and what was loaded of them."""

    def __init__(self, length=11):
        self.length, self.loaded = length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.loaded.append(int(index))
        return torch.tensor(float(index))


class CountedBatches(list):
    loaded = ()

    def __getitem__(self, index):
        self.loaded = (*self.loaded, index)
        return super().__getitem__(index)


class Flow(IterableDataset):
    def __iter__(self):
        return iter(SAMPLES.split(2))


def numbers(data):
    return [batch.tolist() for batch in data]


def parts(make, world_size):
    return [numbers(sharded(make(), rank, world_size)) for rank in range(world_size)]


def generator():
    yield from SAMPLES.split(2)


KINDS = {
    "list": lambda: list(SAMPLES.split(2)),
    "generator": generator,
    "generator function": lambda: generator,
    "rows": lambda: Batches(SAMPLES, batch_size=2),
    "data set": lambda: Batches(Counted(), batch_size=2),
    "loader": lambda: DataLoader(Counted(), batch_size=2),
    "loader of a batch sampler": lambda: DataLoader(
        Counted(), batch_sampler=BatchSampler(range(11), 2, drop_last=False)
    ),
    "loader of an iterable": lambda: DataLoader(Flow(), batch_size=None),
    "the first ones": lambda: Batches(generator, most=4),
}


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
def test_parts_interleave_to_the_whole(make, world_size):
    whole = numbers(as_batches(make()))
    found = parts(make, world_size)
    assert found == [whole[rank::world_size] for rank in range(world_size)]


@given(
    length=st.integers(0, 40), size=st.integers(1, 6), world_size=st.integers(1, 9), most=st.integers(1, 50)
)
def test_parts_are_all_of_the_data_in_order(length, size, world_size, most):
    data = Batches(torch.arange(length), batch_size=size, most=most)
    whole = numbers(data)
    found = parts(lambda: data, world_size)
    rounds = max(map(len, found))
    merged = [part[number] for number in range(rounds) for part in found if number < len(part)]
    assert merged == whole
    assert [sharded(data, rank, world_size).count() for rank in range(world_size)] == list(map(len, found))


@pytest.mark.parametrize(
    "wrapped",
    [
        functools.partial(Batches, batch_size=2),
        functools.partial(DataLoader, batch_size=2),
    ],
    ids=["data set", "loader"],
)
def test_samples_of_others_are_not_loaded(wrapped):
    samples = Counted()
    assert numbers(sharded(wrapped(samples), 1, 3)) == [[2, 3], [8, 9]]
    assert samples.loaded == [2, 3, 8, 9]


def test_batches_of_others_are_not_loaded_from_a_sequence():
    batches = CountedBatches(SAMPLES.split(2))
    assert len(numbers(sharded(batches, 1, 3))) == 2
    assert batches.loaded == (1, 4)


def test_loader_without_batches_of_its_own_loads_its_part_only():
    samples = Counted()
    assert numbers(sharded(DataLoader(samples, batch_size=None), 2, 4)) == [2, 6, 10]
    assert samples.loaded == [2, 6, 10]


def test_loader_that_shuffles_gives_every_process_its_part_of_one_order():
    found = parts(lambda: DataLoader(Counted(), batch_size=2, shuffle=True), 3)
    rows = [number for part in found for batch in part for number in batch]
    assert sorted(rows) == SAMPLES.tolist()
    assert rows != SAMPLES.tolist()


def test_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    numbers(sharded(DataLoader(Counted(), sampler=list(range(11)), batch_size=2), 0, 2))
    unshuffled = torch.get_rng_state()
    torch.set_rng_state(before)
    list(DataLoader(Counted(), sampler=list(range(11)), batch_size=2))
    assert torch.equal(torch.get_rng_state(), unshuffled)


def test_loader_of_a_distributed_sampler_is_a_part_already():
    def loader(rank):
        sampler = DistributedSampler(Counted(12), num_replicas=2, rank=rank, shuffle=False)
        return DataLoader(Counted(12), batch_size=3, sampler=sampler)

    part = sharded(loader(1), 1, 2)
    assert numbers(part) == [[1, 3, 5], [7, 9, 11]]
    assert part.count() == 2


def test_process_without_a_batch_gets_none():
    assert numbers(sharded([SAMPLES], 3, 4)) == []
    assert sharded([SAMPLES], 3, 4).count() == 0


def test_part_of_a_part_is_refused():
    with pytest.raises(OptionError, match="part 0 of 2 already"):
        sharded(sharded([SAMPLES], 0, 2), 0, 2)
