"""Statistics: kept, saved, merged, and used for another target."""

import contextlib
import copy
import functools
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fxquant
from fxquant.calibration import Statistics, TensorStatistics
from fxquant.calibration.sites import activation_sites
from fxquant.errors import BatchError, ExportError, OptionError, StatisticsError
from tests import digits

IMAGES = digits.split().train_images[:96]
BATCHES = list(IMAGES.split(32))
ALL = ("minmax", "moving_average", "mse")


@functools.cache
def _prepared(target):
    return fxquant.prepare(digits.float_model(), target=target)


def prepared_for(target):
    return copy.deepcopy(_prepared(target))


def collected(batches=BATCHES, methods=ALL, target="qualcomm"):
    return fxquant.collect_statistics(prepared_for(target), batches, methods)


@functools.cache
def one_batch():
    return collected(BATCHES[:1], ["mse"])


def ranges(prepared):
    return {
        site.name: (site.quantizer.min.tolist(), site.quantizer.max.tolist())
        for site in activation_sites(prepared)
    }


def plain(value):
    """Statistics as lists, to compare."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return {name: plain(entry) for name, entry in value.items()} if isinstance(value, dict) else value


def test_saved_statistics_are_what_was_saved(tmp_path):
    statistics = collected()
    fxquant.save_statistics(statistics, tmp_path / "seen.pt")
    loaded = fxquant.load_statistics(tmp_path / "seen.pt")
    assert plain(loaded.to_dict()) == plain(statistics.to_dict())
    assert repr(loaded) == repr(statistics)


def test_merged_statistics_are_those_of_all_batches():
    parts = [collected([batch], ("minmax", "mse")) for batch in BATCHES]
    whole = plain(collected(methods=("minmax", "mse")).to_dict())
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = Statistics(parts[0].kinds)
        for index in order:
            merged.merge(parts[index])
        assert plain(merged.to_dict()) == whole


def test_moving_averages_are_merged_by_their_numbers_of_batches():
    first, second = collected(BATCHES[:2]), collected(BATCHES[2:])
    name = next(iter(first.tensors))
    highs = [float(part[name].average().bounds()[1]) for part in (first, second)]
    first.merge(second)
    assert float(first[name].average().bounds()[1]) == pytest.approx((2 * highs[0] + highs[1]) / 3, rel=1e-6)


@pytest.mark.parametrize("target", [name for name in digits.TARGETS if name != "qualcomm"])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_other_targets_get_the_ranges_of_a_calibration_of_their_own(target, method):
    from_statistics, from_data = prepared_for(target), prepared_for(target)
    fxquant.apply_statistics(from_statistics, collected(), method)
    fxquant.calibrate(from_data, BATCHES, method)
    assert ranges(from_statistics) == ranges(from_data)
    fxquant.convert(from_statistics)


def test_tensor_that_was_not_seen_is_named():
    statistics = collected(target="tensorrt")
    model = prepared_for("qualcomm")
    with pytest.raises(StatisticsError, match=r"know nothing of \d+ quantized tensor\(s\): '.*'"):
        fxquant.apply_statistics(model, statistics)
    assert not any(
        site.quantizer.has_range()
        for site in activation_sites(model)
        if site.quantizer.is_overwrite_allowed()
    )


def test_method_that_was_not_collected_for_is_named():
    with pytest.raises(StatisticsError, match="kind 'histogram'"):
        fxquant.apply_statistics(prepared_for("qualcomm"), collected(methods=["minmax"]), "mse")


def test_statistics_of_other_methods_are_not_merged():
    with pytest.raises(StatisticsError, match="histogram, range cannot be added to range"):
        collected(methods=["minmax"]).merge(collected(methods=["mse"]))


def test_run_that_was_interrupted_goes_on(tmp_path):
    path = tmp_path / "seen.pt"

    def breaking():
        yield from BATCHES[:2]
        raise RuntimeError("the disk is gone")

    with pytest.raises(BatchError, match=r"Batch 2 could not be loaded: .*the disk is gone"):
        fxquant.calibrate(prepared_for("qualcomm"), breaking(), "mse", checkpoint=path)
    assert fxquant.load_statistics(path).num_batches == 2
    read = []
    model = prepared_for("qualcomm")
    found = fxquant.calibrate(
        model, (read.append(index) or batch for index, batch in enumerate(BATCHES)), "mse", checkpoint=path
    )
    assert found.num_batches == 3
    assert read == [0, 1, 2]
    whole = prepared_for("qualcomm")
    fxquant.calibrate(whole, BATCHES, "mse")
    assert ranges(model) == ranges(whole)


def test_interrupt_keeps_what_was_seen():
    def interrupted():
        yield from BATCHES[:2]
        raise KeyboardInterrupt

    model, whole = prepared_for("qualcomm"), prepared_for("qualcomm")
    with pytest.raises(KeyboardInterrupt):
        fxquant.calibrate(model, interrupted())
    fxquant.calibrate(whole, BATCHES[:2])
    assert ranges(model) == ranges(whole)


def test_interrupt_in_the_middle_of_a_batch_leaves_that_batch_out():
    model = prepared_for("qualcomm")
    statistics = Statistics(collected(methods=["mse"]).kinds)
    calls = []

    def interrupt(module, args, output):
        calls.append(module)
        if len(calls) == 2:
            raise KeyboardInterrupt

    model.get_submodule("block1.conv1").register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fxquant.collect_statistics(model, BATCHES, ["mse"], into=statistics)
    assert statistics.num_batches == 1
    assert plain(statistics.to_dict()) == plain(collected(BATCHES[:1], ["mse"]).to_dict())


def test_statistics_of_an_earlier_run_are_added_to():
    statistics = collected(BATCHES[:1], ["mse"])
    fxquant.collect_statistics(prepared_for("qualcomm"), BATCHES[1:], ["mse"], into=statistics)
    assert plain(statistics.to_dict()) == plain(collected(methods=["mse"]).to_dict())
    with pytest.raises(StatisticsError, match="nothing of the kind 'average'"):
        fxquant.collect_statistics(prepared_for("qualcomm"), BATCHES, ["moving_average"], into=statistics)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", None, [1, 2], {"format": "another"}, {"format": "fxquant statistics 1"}],
    ids=repr,
)
def test_file_that_holds_something_else_is_an_error(content, tmp_path):
    path = tmp_path / "seen.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(StatisticsError, match=r"seen\.pt"):
        fxquant.load_statistics(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(StatisticsError, match=r"absent\.pt"):
        fxquant.load_statistics(tmp_path / "absent.pt")


@pytest.mark.parametrize("wrong", [None, 3, "x", {}, []], ids=repr)
@pytest.mark.parametrize("key", ["kinds", "shape", "block_size", "range", "average", "histogram"])
def test_damaged_entries_of_a_file_load_or_are_errors(key, wrong, tmp_path):
    values = one_batch().to_dict()
    name = next(iter(values["tensors"]))
    changed = {**values, "tensors": {name: {**values["tensors"][name], key: wrong}}}
    torch.save(changed, tmp_path / "seen.pt")
    with contextlib.suppress(StatisticsError):
        fxquant.load_statistics(tmp_path / "seen.pt")


def test_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError):
        fxquant.save_statistics(one_batch(), tmp_path / "file" / "seen.pt")


def test_checkpoint_of_other_weights_is_an_error(tmp_path):
    path = tmp_path / "seen.pt"
    model = prepared_for("qualcomm")
    fxquant.calibrate(model, BATCHES, checkpoint=path)
    fxquant.calibrate(model, BATCHES, checkpoint=path)  # ranges may differ
    with torch.no_grad():
        model.get_parameter("stem.weight").mul_(2)
    with pytest.raises(StatisticsError, match="checkpoint of another model"):
        fxquant.calibrate(model, BATCHES, checkpoint=path)
    with pytest.raises(StatisticsError, match="checkpoint of another model"):
        fxquant.calibrate(prepared_for("tensorrt"), BATCHES, checkpoint=path)


def test_checkpoint_of_a_loader_that_shuffles_is_an_error(tmp_path):
    loader = DataLoader(TensorDataset(IMAGES), batch_size=32, shuffle=True)
    with pytest.raises(OptionError, match="shuffles"):
        fxquant.calibrate(prepared_for("qualcomm"), loader, checkpoint=tmp_path / "seen.pt")


def test_parts_of_the_data_share_a_checkpoint(tmp_path):
    for rank in range(2):
        part = fxquant.Batches(BATCHES, rank=rank, world_size=2)
        found = fxquant.calibrate(prepared_for("qualcomm"), part, "mse", checkpoint=tmp_path / "seen.pt")
    assert plain(found.to_dict()) == plain(collected(methods=["mse"]).to_dict())


def test_interrupt_is_an_interrupt_where_the_checkpoint_cannot_be_written(tmp_path):
    def interrupted():
        yield BATCHES[0]
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyboardInterrupt):
        fxquant.calibrate(prepared_for("qualcomm"), interrupted, checkpoint=tmp_path / "file" / "seen.pt")


def test_rejected_batch_leaves_no_trace():
    class Two(nn.Module):
        def forward(self, x, y):
            return torch.relu(x) @ torch.relu(y)

    good = torch.randn(2, 4), torch.randn(4, 3)
    model = fxquant.prepare(Two(), good, target="qualcomm")
    statistics = fxquant.collect_statistics(model, [good])
    before = plain(statistics.to_dict())
    with pytest.raises(BatchError):
        fxquant.collect_statistics(model, [(good[0], torch.ones(3, 3, dtype=torch.long))], into=statistics)
    assert plain(statistics.to_dict()) == before


def test_interrupt_while_a_batch_is_added_waits_for_its_end(tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a runtime that others load has its own
    path, counts = tmp_path / "seen.pt", []
    add = TensorStatistics.add

    def interrupt(self, seen):
        counts.append(self)
        if len(counts) == 5:
            # as Python would: a runtime that other tests load may leave no stack for a real signal
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        add(self, seen)

    monkeypatch.setattr(TensorStatistics, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fxquant.calibrate(prepared_for("qualcomm"), BATCHES, "mse", checkpoint=path)
    monkeypatch.undo()
    assert plain(fxquant.load_statistics(path).to_dict()) == plain(one_batch().to_dict())


def test_run_in_inference_mode_is_added_to_outside_of_it():
    with torch.inference_mode():
        statistics = collected(BATCHES[:2], ["mse"])
    fxquant.collect_statistics(prepared_for("qualcomm"), BATCHES[2:], ["mse"], into=statistics)
    assert plain(statistics.to_dict()) == plain(collected(methods=["mse"]).to_dict())
