"""Models that no symbolic tracer follows, through every verb."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.errors import BatchError, CaptureError, ExportError, NonFiniteError
from fxquant.graph.structure import tensors_in
from tests.graph.forwards import CASES, ROWS, STEPS, HoldsABranch

EXPORTED = (
    *("GivesADataclass", "TakesAnyNumber", "Asserts", "CallsACustomFunction", "Attends", "AttendsCausally"),
    *("Remembers", "HasNorms", "HasHooks", "TiesWeights", "HidesItsLayers", "LeavesEarly", "LoopsOverTime"),
)


def quantized(name):
    make, (args, kwargs) = CASES[name]
    torch.manual_seed(0)
    model, example = make().eval(), fxquant.graph.Example(args=args, kwargs=kwargs)
    prepared = fxquant.prepare(model, example, target="onnxruntime")
    fxquant.calibrate(prepared, [example])
    return model, fxquant.convert(prepared), example


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", EXPORTED)
def test_file_computes_what_was_simulated(name, tmp_path):
    model, simulated, example = quantized(name)
    files = fxquant.export(simulated, tmp_path, example)
    report = fxquant.verify(simulated, files, [example])
    assert report.max_steps <= 1
    wanted = tensors_in(model(*example.args, **example.kwargs))
    given = tensors_in(simulated(*example.args, **example.kwargs))
    # eight bits, a few layers deep
    assert all((g - w).norm() <= 0.1 * w.norm() for g, w in zip(given, wanted, strict=True))


@pytest.fixture
def branching():
    torch.manual_seed(0)
    return fxquant.prepare(HoldsABranch().eval(), ROWS, target="onnxruntime")


def test_layers_that_a_whole_layer_calls_are_quantized(branching):
    fxquant.calibrate(branching, [ROWS, -ROWS])
    simulated = fxquant.convert(branching)
    coverage = fxquant.report(branching).coverage
    assert (coverage.share_of_macs, coverage.macs) == (1.0, 4 * 8 * 8 * 4)
    assert simulated.inner.fc.graph_module.layer.weight.dtype == torch.int8
    for copied in (copy.deepcopy(simulated), pickle.loads(pickle.dumps(simulated))):
        assert torch.equal(copied(ROWS), simulated(ROWS))


def test_a_whole_layer_that_branches_cannot_be_exported(branching, tmp_path):
    fxquant.calibrate(branching, [ROWS])
    with pytest.raises(ExportError, match=r"torch\.onnx cannot export"):
        fxquant.export(fxquant.convert(branching), tmp_path)


def test_nan_inside_a_whole_layer_is_found(branching):
    branching.inner.fc.graph_module.layer.bias.data[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"inner\.fc"):
        fxquant.calibrate(branching, [ROWS])


def test_the_report_names_what_stays_float_and_why(branching, caplog):
    text = str(fxquant.report(branching))
    assert "100.0% of 1.02 k MACs" in text
    assert "whole and float: 'inner' reads the contents of a tensor (__bool__)" in text
    assert "if y.sum() > 0:" in text
    with caplog.at_level(logging.INFO, logger="fxquant"):
        fxquant.prepare(nn.Sequential(nn.LSTM(8, 4)), STEPS, target="onnxruntime")
    assert "0.0% of" in caplog.text
    assert "lstm: onnxruntime has no integer kernel for lstm" in caplog.text


class Masked(nn.Module):
    """Attention whose mask adds the lowest float to what must not be seen."""

    def __init__(self, lowest):
        super().__init__()
        self.qkv, self.lowest = nn.Linear(8, 24), lowest

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        mask = torch.full((x.shape[1], x.shape[1]), self.lowest).triu(1)
        return F.softmax(q @ k.transpose(1, 2) * 8**-0.5 + mask, -1) @ v


@pytest.mark.parametrize(
    "lowest", [torch.finfo(torch.float32).min, float("-inf")], ids=["lowest float", "-inf"]
)
def test_a_tensor_that_holds_a_masks_values_stays_float(lowest):
    torch.manual_seed(0)
    model = Masked(lowest).eval()
    result = fxquant.quantize(model, [STEPS], target="onnxruntime")
    reasons = [site.reason for site in result.report.declined("calibrate")]
    assert reasons
    assert all("mask's lowest values" in reason for reason in reasons)
    wanted = model(STEPS)
    # a mask on an 8-bit grid would leave nothing of the other values
    assert (result.model(STEPS) - wanted).norm() <= 0.05 * wanted.norm()


def test_quantize_takes_its_first_batch_as_example_from_a_generator_too():
    torch.manual_seed(0)
    result = fxquant.quantize(HoldsABranch().eval(), ((ROWS, torch.zeros(4)) for _ in range(2)))
    assert result.report.capture.way == "recorded"


def test_without_example_inputs_the_error_says_to_pass_them():
    with pytest.raises(CaptureError, match="Pass example_inputs"):
        fxquant.prepare(HoldsABranch())


def test_example_inputs_that_do_not_fit_are_refused():
    with pytest.raises(BatchError, match=r"do not fit the model's forward\(x\)"):
        fxquant.prepare(HoldsABranch(), (ROWS, ROWS))


def test_a_flag_may_be_left_out_of_batches():
    make, ((batch,), options) = CASES["TakesContainers"]
    prepared = fxquant.prepare(make().eval(), {"batch": batch, **options}, target="onnxruntime")
    fxquant.calibrate(prepared, [{"batch": batch}])
    assert prepared.meta["fxquant"].example.kwargs["batch"]["more"][1][1] == 3
