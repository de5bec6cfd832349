"""What a run shows, and what becomes of it."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fxquant
from fxquant.calibration import CalibrationInterpreter, Kind, TensorStatistics, tensor_statistics
from fxquant.calibration.observed_model import ObservedModel
from fxquant.calibration.sites import activation_sites
from fxquant.errors import BatchError
from fxquant.quantization.encoding_analyzer import counting, exact_histogram
from tests import digits

IMAGES = digits.split().train_images[:32]
WAITS = ("_local_scalar_dense", "bincount", "nonzero", "masked_select", "equal")


class NeverWaiting(TorchDispatchMode):
    """Refuses what makes a program wait for its device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.split(".")[0] in WAITS:
            raise AssertionError(f"{func} waits")
        return func(*args, **(kwargs or {}))


def prepared_digits():
    return fxquant.prepare(digits.float_model(), target="onnxruntime")


def test_observed_model_shows_what_the_interpreter_shows():
    model, seen, expected = prepared_digits(), {}, {}
    sites = activation_sites(model)
    observed = ObservedModel(model, sites, lambda site, value: seen.update({site.node: value.clone()}))
    with observed.running() as call:
        output = call(IMAGES)
    wanted = CalibrationInterpreter(model, lambda node, value: expected.update({node: value.clone()}))
    with torch.no_grad():
        assert torch.equal(output, wanted.run_all(IMAGES))
    nodes = {site.node for site in sites}
    assert {node: seen[node].tolist() for node in nodes} == {node: expected[node].tolist() for node in nodes}


def test_observed_model_leaves_the_prepared_model_as_it_was():
    model = prepared_digits()
    before = [(name, id(module)) for name, module in model.named_modules()]
    code = model.code
    with ObservedModel(model, activation_sites(model), lambda site, value: None).running() as call:
        call(IMAGES)
    assert [(name, id(module)) for name, module in model.named_modules()] == before
    assert model.code == code


def test_observed_model_frees_values_after_their_last_use():
    class Chain(nn.Module):
        def forward(self, x):
            for _ in range(20):
                x = torch.relu(x + 1)
            return x.sum()

    model = fxquant.prepare(Chain(), torch.randn(2, 8), target="qualcomm")
    alive: list[weakref.ref] = []
    most = []

    def show(site, value):
        alive.extend([] if site.is_constant else [weakref.ref(value)])
        most.append(len({id(seen()) for seen in alive if seen() is not None}))

    with ObservedModel(model, activation_sites(model), show).running() as call:
        call(torch.randn(2, 8))
    assert len(most) > 15
    assert max(most) <= 3


def test_layers_run_as_before_after_an_error():
    model = prepared_digits()
    fxquant.calibrate(model, [IMAGES])
    expected = model(IMAGES)
    with pytest.raises(BatchError, match="rejects batch 1"):
        fxquant.calibrate(model, [IMAGES, IMAGES[:, :, :1]])
    assert torch.equal(model(IMAGES), expected)


def test_tensor_in_another_order_is_seen_once():
    class Moves(nn.Module):
        def forward(self, x):
            y = torch.relu(x)
            return (y.transpose(1, 2) @ y).reshape(x.shape[0], -1)

    batch = torch.randn(2, 4, 4)
    model = fxquant.prepare(Moves(), batch, target="qualcomm")
    statistics = fxquant.calibrate(model, [batch], "mse")
    assert statistics.like == {"transpose": "relu", "reshape": "matmul"}
    assert int(statistics["relu"].histogram().bins.sum()) == batch.numel()


def test_tensor_that_two_quantizers_read_is_seen_once():
    counts = fxquant.calibrate(prepared_digits(), [IMAGES], "mse")
    assert int(counts["x"].histogram().bins.sum()) == IMAGES.numel()


def test_constants_are_seen_once():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.randn(5))

        def forward(self, x):
            return x + self.shift

    model = fxquant.prepare(Adds(), torch.randn(2, 5), target="qualcomm")
    statistics = fxquant.calibrate(model, [torch.randn(2, 5)] * 3, "mse")
    assert int(statistics["shift"].histogram().bins.sum()) == 5


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_looking_at_a_tensor_elsewhere_waits_for_nothing(kind, monkeypatch):
    for module in (counting, exact_histogram, tensor_statistics):
        monkeypatch.setattr(module, "may_wait", lambda tensor: False)
    statistics = TensorStatistics([kind])
    first, second = torch.randn(4, 300), 5 * torch.randn(4, 300)
    with NeverWaiting():
        for tensor in (first, second):
            statistics.add(statistics.look(tensor))
    monkeypatch.undo()
    here = TensorStatistics([kind])
    for tensor in (first, second):
        here.add(here.look(tensor))
    assert [float(end) for end in statistics.range().bounds()] == [
        float(end) for end in here.range().bounds()
    ]
    if kind is Kind.HISTOGRAM:
        assert torch.equal(statistics.histogram().bins, here.histogram().bins)
