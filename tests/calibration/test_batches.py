from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import fxquant
from fxquant.calibration import Signature, as_batches, calls_of, first_call
from fxquant.errors import BatchError, OptionError
from fxquant.graph import Example, capture

ROWS = torch.arange(10.0).reshape(5, 2)
LABELS = torch.arange(5)
MODEL = nn.Linear(2, 2)
Pair = namedtuple("Pair", "input label")


class Images(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return ROWS[index], int(LABELS[index])


class Flow(IterableDataset):
    def __iter__(self):
        return iter(ROWS.split(2))


class Old:
    """What Python iterates over by numbers alone."""

    def __getitem__(self, index):
        return ROWS[index]


@dataclass
class Record:
    input: torch.Tensor


def generator():
    yield from ROWS.split(2)


def loader():
    return DataLoader(TensorDataset(ROWS, LABELS), batch_size=2)


def seen(data, signature=None):
    calls = calls_of(data, signature or Signature(capture(MODEL)))
    return [tuple(tensor.shape) for example in calls for tensor in example.tensors()]


def images_only(samples):
    return torch.stack([image for image, _ in samples])


PARTS = [(2, 2), (2, 2), (1, 2)]


def batches(source, **options):
    return fxquant.Batches(source, **options)


@pytest.mark.parametrize(
    ("data", "shapes"),
    [
        pytest.param(list(ROWS.split(2)), PARTS, id="list"),
        pytest.param(ROWS.split(2), PARTS, id="tuple of batches"),
        pytest.param(loader(), PARTS, id="loader of inputs and labels"),
        pytest.param(generator(), PARTS, id="generator"),
        pytest.param(generator, PARTS, id="generator function"),
        pytest.param(loader, PARTS, id="function that makes a loader"),
        pytest.param(map(torch.Tensor.numpy, ROWS.split(2)), PARTS, id="map"),
        pytest.param(Flow(), PARTS, id="iterable data set"),
        pytest.param(DataLoader(Flow(), batch_size=None), PARTS, id="loader of batches"),
        pytest.param(ROWS, [(5, 2)], id="tensor"),
        pytest.param(ROWS.numpy(), [(5, 2)], id="array"),
        pytest.param({"input": ROWS.numpy()}, [(5, 2)], id="dict of arrays"),
        pytest.param(Pair(ROWS, LABELS), [(5, 2)], id="named tuple"),
        pytest.param(Record(ROWS), [(5, 2)], id="dataclass"),
        pytest.param(Example(args=(ROWS,)), [(5, 2)], id="call"),
        pytest.param(batches(ROWS, batch_size=2), PARTS, id="rows of a tensor"),
        pytest.param(batches(ROWS.numpy(), batch_size=2), PARTS, id="rows of an array"),
        pytest.param(batches({"input": ROWS, "label": LABELS}, batch_size=2), PARTS, id="rows of a dict"),
        pytest.param(batches((ROWS, LABELS.numpy()), batch_size=2), PARTS, id="rows of a tuple"),
        pytest.param(batches(Images(), batch_size=2), PARTS, id="data set"),
        pytest.param(batches([*ROWS], batch_size=2), PARTS, id="list of samples"),
        pytest.param(batches(lambda: iter(ROWS), batch_size=2), PARTS, id="function of samples"),
        pytest.param(batches(Old(), batch_size=2), PARTS, id="old-style data set"),
        pytest.param(batches(Images(), batch_size=4, collate=images_only), [(4, 2), (1, 2)], id="collate"),
        pytest.param(batches(generator, most=2), PARTS[:2], id="the first ones"),
    ],
)
def test_data_of_every_kind_becomes_calls(data, shapes):
    assert seen(data) == shapes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(generator, id="generator function"),
        pytest.param(loader(), id="loader"),
        pytest.param(batches(Images(), batch_size=2), id="data set"),
        pytest.param(list(ROWS.split(2)), id="list"),
    ],
)
def test_second_pass_gives_the_same_batches(data):
    kept = as_batches(data)
    assert kept.is_repeatable()
    assert seen(kept) == seen(kept) == PARTS


@pytest.mark.parametrize("data", [generator(), iter(ROWS.split(2))], ids=["generator", "iterator"])
def test_second_pass_over_an_iterator_is_refused(data):
    kept = as_batches(data)
    assert not kept.is_repeatable()
    assert seen(kept) == PARTS
    with pytest.raises(BatchError, match=r"that was used up before.*Pass the function that makes it"):
        seen(kept)


def test_generator_that_was_used_up_elsewhere_is_refused():
    used = generator()
    assert seen(used) == PARTS
    with pytest.raises(BatchError, match="generator that was used up before"):
        seen(used)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        pytest.param(list(ROWS.split(2)), 3, id="list"),
        pytest.param(loader(), 3, id="loader"),
        pytest.param(batches(ROWS, batch_size=2), 3, id="rows"),
        pytest.param(batches(Images(), batch_size=2), 3, id="data set"),
        pytest.param(batches(Images(), batch_size=2, most=2), 2, id="the first ones"),
        pytest.param(batches([ROWS], most=2), 1, id="more than there are"),
        pytest.param(batches(Images(), batch_size=2, rank=1, world_size=2), 1, id="a part"),
        pytest.param(generator, None, id="function"),
        pytest.param(generator(), None, id="generator"),
        pytest.param(DataLoader(Flow(), batch_size=None), None, id="loader without a length"),
    ],
)
def test_number_of_batches_where_it_is_known(data, count):
    assert as_batches(data).count() == count


def needs_arguments(path):
    return [path]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(3, "must be an iterable", id="number"),
        pytest.param(None, "must be an iterable", id="none"),
        pytest.param(nn.ReLU(), "must be an iterable, not ReLU", id="model"),
        pytest.param(Images, "not type.* Call it", id="class"),
        pytest.param(needs_arguments, "without arguments: missing.*'path'", id="function with arguments"),
        pytest.param("images", "'images' is no data", id="text"),
        pytest.param(Images(), "A Images gives samples, not batches.*batch_size=32", id="data set"),
        pytest.param(batches(loader(), batch_size=2), "makes batches by itself", id="batched twice"),
        pytest.param([], "holds no batch", id="empty list"),
        pytest.param(lambda: iter(()), "holds no batch", id="function without batches"),
        pytest.param(batches(ROWS[:0], batch_size=2), "holds no batch", id="no rows"),
        pytest.param(["image"], "Batch 0: A batch must be a tensor", id="texts"),
        pytest.param(
            [ROWS, LABELS], "Batch 1 gives 'input' a tensor of integers, the first", id="other type"
        ),
        pytest.param([ROWS, (ROWS, 1, 2)], "Batch 1: .*does not fit", id="other number"),
        pytest.param(batches((ROWS, LABELS[:3]), batch_size=2), "arrays of 5 and 3 rows", id="uneven rows"),
        pytest.param(batches(torch.tensor(1.0), batch_size=2), "no array with rows", id="nothing to cut"),
        pytest.param(batches(["a", "b"], batch_size=2), "type str cannot be stacked", id="texts to stack"),
    ],
)
def test_what_is_no_data_is_refused_with_a_remedy(data, message):
    with pytest.raises(BatchError, match=message) as error:
        seen(data)
    assert error.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"batch_size": 0}, "batch_size 0", id="no rows"),
        pytest.param({"most": -1}, "most -1", id="negative"),
        pytest.param({"batch_size": 2.5}, "batch_size 2.5", id="no whole number"),
        pytest.param({"rank": 2, "world_size": 2}, "no rank 2 among 2", id="rank"),
        pytest.param({"collate": len}, "collate function makes batches", id="collate alone"),
    ],
)
def test_option_out_of_range_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        batches(ROWS, **options)


def test_batches_of_batches_are_refused():
    with pytest.raises(OptionError, match="made of Batches"):
        batches(batches(ROWS))


def failing():
    yield ROWS
    raise KeyError("missing.png")


def test_error_of_the_users_data_names_the_batch():
    with pytest.raises(BatchError, match=r"Batch 1 could not be loaded: KeyError: 'missing.png'") as error:
        seen(failing())
    assert isinstance(error.value.__cause__, KeyError)


def test_first_call_leaves_a_generator_whole():
    example, every = first_call(MODEL, generator())
    assert torch.equal(example.args[0], ROWS[:2])
    assert seen(every) == PARTS


def test_first_call_of_no_data_is_refused():
    with pytest.raises(BatchError, match="holds no batch"):
        first_call(MODEL, iter(()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", [generator, ROWS.numpy(), batches(Images(), batch_size=2)], ids=["function", "array", "data set"]
)
def test_every_verb_takes_data_of_any_kind(data, tmp_path):
    result = fxquant.quantize(MODEL, data, target="onnxruntime")
    files = fxquant.export(result.model, tmp_path)
    assert fxquant.verify(result.model, files, data).max_steps <= 1


def test_double_array_calibrates_a_float_model():
    prepared = fxquant.prepare(MODEL, target="onnxruntime")
    fxquant.calibrate(prepared, np.random.rand(4, 2))
    assert fxquant.convert(prepared)(ROWS).dtype == torch.float32
