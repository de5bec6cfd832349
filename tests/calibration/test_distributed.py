"""Calibration by real processes, over gloo."""

import copy
import functools
import io
import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fxquant
from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.errors import BatchError, DistributedError, NonFiniteError, StatisticsError
from fxquant.graph import Stage, get_record
from tests import digits
from tests.calibration.job import run_job

pytestmark = pytest.mark.slow

IMAGES = digits.split().train_images[:90]
BATCHES = list(IMAGES.split(8))  # 12, the last one shorter
ALL = ("minmax", "moving_average", "entropy")
EXACT = ("minmax", "percentile:99.9", "entropy", "mse", "sqnr")


@pytest.fixture(autouse=True)
def one_thread():
    """Compute as the processes of a job do: a convolution rounds by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Branching(torch.nn.Module):
    """A layer whose conv only some batches reach: it stays whole, what it calls is quantized."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


class Masked(torch.nn.Module):
    """Scores that a mask hides where the input is negative."""

    def forward(self, x):
        scores = (x @ x.transpose(-1, -2)).masked_fill(x @ x.transpose(-1, -2) < 0, float("-inf"))
        return torch.softmax(scores, dim=-1)


@functools.cache
def prepared_once():
    return fxquant.prepare(digits.float_model(), target="onnxruntime")


def prepared():
    return copy.deepcopy(prepared_once())


def ends(model):
    """Return what calibration found, and what it remembers."""
    sites = [*activation_sites(model), *weight_sites(model)]
    numbers = {site.name: (site.quantizer.min.tolist(), site.quantizer.max.tolist()) for site in sites}
    example = get_record(model, Stage.PREPARED).example
    return numbers, [tensor.tolist() for tensor in example.tensors()]


def bits(statistics):
    file = io.BytesIO()
    torch.save(statistics.to_dict(), file)
    return file.getvalue()


def flags(statistics):
    return {
        name: (seen.is_masked, seen.is_integer, seen.is_empty, seen.has_range)
        for name, seen in statistics.tensors.items()
    }


def calibrated(batches, method="minmax", **options):
    model = prepared()
    statistics = fxquant.calibrate(model, batches, method, **options)
    return ends(model), statistics.num_batches


def branching(batches):
    torch.manual_seed(0)
    model = fxquant.prepare(Branching().eval(), target="onnxruntime", example_inputs=torch.ones(1, 1, 2, 2))
    return flags(fxquant.collect_statistics(model, batches))


def masked(batches):
    model = fxquant.prepare(Masked().eval(), target="onnxruntime", example_inputs=torch.ones(1, 2, 3))
    statistics = fxquant.collect_statistics(model, batches)
    return flags(statistics)


SIGNS = [torch.full((1, 1, 2, 2), sign) for sign in (-1.0, -2.0, 3.0)]
ROWS = [torch.ones(1, 2, 3), torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]]])]


def every_case(rank, folder):
    """Return what this process finds in every case that ends well."""
    world = torch.distributed.get_world_size()
    sampler = DistributedSampler(TensorDataset(IMAGES[:88]), world, rank, shuffle=False)
    own = [batch for number, batch in enumerate(BATCHES) if number % world == rank]
    statistics = fxquant.collect_statistics(prepared(), BATCHES, ALL)
    return {
        "bits": bits(statistics),
        **{method: calibrated(BATCHES, method) for method in EXACT},
        "moving_average": calibrated(BATCHES, "moving_average"),
        "one batch": calibrated(BATCHES[:1]),
        "own": calibrated(own, shard=False),
        "generator": calibrated(iter(BATCHES)),
        "sampler": calibrated(DataLoader(TensorDataset(IMAGES[:88]), batch_size=4, sampler=sampler)),
        "checkpoint": calibrated(BATCHES, checkpoint=folder / "kept"),
        "again": calibrated(BATCHES, checkpoint=folder / "kept"),
        "branching": branching(SIGNS),
        "masked": masked(ROWS),
        "into": fxquant.collect_statistics(prepared(), BATCHES, into=statistics_of(BATCHES)).num_batches,
    }


def statistics_of(batches):
    return fxquant.collect_statistics(prepared(), batches)


@pytest.fixture(scope="module", params=[2, 4])
def found(request, tmp_path_factory):
    outcomes = run_job(request.param, tmp_path_factory.mktemp("job"), every_case)
    assert [outcome.error for outcome in outcomes] == [None] * request.param
    return [outcome.result for outcome in outcomes]


def test_every_process_ends_with_the_same_bits(found):
    assert all(result == found[0] for result in found)


@pytest.mark.parametrize("method", EXACT)
def test_encodings_are_those_of_one_process(found, method):
    assert found[0][method] == calibrated(BATCHES, method)


@pytest.mark.parametrize("case", ["own", "generator", "checkpoint", "again"])
def test_other_ways_to_hand_over_the_batches_give_the_same(found, case):
    assert found[0][case] == calibrated(BATCHES)


def test_processes_without_a_batch_end_like_the_others(found):
    assert found[0]["one batch"] == calibrated(BATCHES[:1])


def test_loader_that_is_sharded_stays_as_it_is(found):
    parts = [IMAGES[rank : 88 : len(found)].split(4) for rank in range(len(found))]
    batches = [batch for part in parts for batch in part]
    assert found[0]["sampler"] == calibrated(batches)


def test_moving_average_stays_within_the_range_seen(found):
    (average, _), _ = found[0]["moving_average"]
    (whole, _), _ = calibrated(BATCHES)
    assert whole["x"][0] <= average["x"][0] <= average["x"][1] <= whole["x"][1]


def test_layers_that_only_some_processes_reach_are_those_of_one_process(found):
    assert found[0]["branching"] == branching(SIGNS)


def test_masks_that_one_process_sees_count_on_all(found):
    assert any(is_masked for is_masked, *_ in found[0]["masked"].values())
    assert found[0]["masked"] == masked(ROWS)


def test_statistics_are_added_to_those_given(found):
    assert found[0]["into"] == 24


def not_a_number(rank, folder):
    batches = list(BATCHES)
    batches[3] = torch.full_like(batches[3], float("nan"))
    fxquant.calibrate(prepared(), batches)


def wrong_shape(rank, folder):
    fxquant.calibrate(prepared(), [*BATCHES[:5], torch.zeros(2, 3)])


def broken_data(rank, folder):
    def batches():
        yield from BATCHES[:2]
        if rank == 1:
            raise OSError("the disk is gone")

    fxquant.calibrate(prepared(), batches())


def other_model(rank, folder):
    model = digits.float_model()
    with torch.no_grad():
        next(model.parameters()).mul_(1 + rank)
    fxquant.calibrate(fxquant.prepare(model, target="onnxruntime"), BATCHES)


def nothing(rank, folder):
    fxquant.calibrate(prepared(), [])


@pytest.mark.parametrize(
    ("work", "kind", "text"),
    [
        (not_a_number, NonFiniteError, "Rank 1: NaN or Inf in batch 3 .* 'x'"),
        (wrong_shape, BatchError, "Rank 1: The model rejects batch 5"),
        (broken_data, BatchError, "Rank 1: Batch .* could not be loaded: OSError: the disk is gone"),
        (other_model, StatisticsError, "Rank 1 calibrates another model than rank 0"),
        (nothing, BatchError, "The data holds no batch"),
    ],
    ids=["not a number", "wrong shape", "broken data", "other model", "no data"],
)
def test_error_of_one_process_is_that_of_all(tmp_path, work, kind, text):
    outcomes = run_job(2, tmp_path, work)
    assert {type(outcome.error) for outcome in outcomes} == {kind}
    assert len({str(outcome.error) for outcome in outcomes}) == 1
    with pytest.raises(kind, match=text):
        raise outcomes[0].error


def error_then_calibration(rank, folder):
    with pytest.raises(NonFiniteError):
        not_a_number(rank, folder)
    return calibrated(BATCHES)


def test_process_group_serves_on_after_an_error(tmp_path):
    outcomes = run_job(2, tmp_path, error_then_calibration)
    assert [outcome.result for outcome in outcomes] == [calibrated(BATCHES)] * 2


def lost(rank, folder, how):
    """Lose rank 1 after its first batch; the others wait three seconds."""

    def batches():
        for number, batch in enumerate(BATCHES):
            if rank == 1 and number == 2:
                how()
            yield batch

    start = time.monotonic()
    try:
        fxquant.calibrate(prepared(), batches(), checkpoint=folder / "kept", timeout=3)
    except DistributedError as error:
        return str(error), time.monotonic() - start
    return None


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(60)


def resumed(rank, folder):
    return calibrated(BATCHES, "mse", checkpoint=folder / "kept")


@pytest.mark.parametrize("how", [die, hang])
def test_lost_process_ends_the_others_in_bounded_time_and_what_they_saw_is_kept(tmp_path, how):
    outcomes = run_job(3, tmp_path, lost, how)
    told = [outcomes[rank].result for rank in (0, 2)]
    assert [text for text, _ in told] == [told[0][0]] * 2
    assert "Rank 1: It was lost" in told[0][0]
    assert max(seconds for _, seconds in told) < 15
    kept = fxquant.load_statistics(tmp_path / "kept.rank0-of-3")
    assert kept.num_batches == 4


def interrupted(rank, folder):
    def batches():
        for number, batch in enumerate(BATCHES * 100):
            if rank == 1 and number == 5:
                raise KeyboardInterrupt
            yield batch

    model = prepared()
    with pytest.raises(KeyboardInterrupt):
        fxquant.calibrate(model, batches(), checkpoint=folder / "kept")
    return {site.name: site.quantizer.max.item() for site in activation_sites(model)}


def test_interrupt_of_one_process_stops_all_with_the_ranges_until_then(tmp_path):
    outcomes = run_job(2, tmp_path, interrupted)
    assert outcomes[0].error is None
    assert outcomes[0].result == outcomes[1].result
    kept = [fxquant.load_statistics(tmp_path / f"kept.rank{rank}-of-2").num_batches for rank in (0, 1)]
    assert kept[1] == 2
    assert kept[0] < 600


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_checkpoint_goes_on_with_another_number_of_processes(tmp_path, world_size):
    run_job(3, tmp_path, killed_in_the_middle)
    assert sorted(file.name for file in tmp_path.glob("kept*")) == [f"kept.rank{r}-of-3" for r in (0, 2)]
    second = tmp_path / "second"
    second.mkdir()
    for file in tmp_path.glob("kept*"):
        file.rename(second / file.name)
    if world_size == 1:
        results = [resumed(0, second)]
    else:
        results = [outcome.result for outcome in run_job(world_size, second, resumed)]
    assert results == [calibrated(BATCHES, "mse")] * world_size
    assert [file.name for file in second.glob("kept*")] == ["kept"]


def killed_in_the_middle(rank, folder):
    def batches():
        for number, batch in enumerate(BATCHES):
            if rank == 1 and number == 4:
                die()
            yield batch

    with pytest.raises(DistributedError):
        fxquant.calibrate(prepared(), batches(), "mse", checkpoint=folder / "kept", timeout=3)
