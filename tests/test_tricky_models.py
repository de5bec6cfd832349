"""Structures that once went wrong: the simulation follows the float model, and the file the simulation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.calibration import CalibrationInterpreter, Signature
from tests import digits


class SharedInPlaceRelu(nn.Module):
    """One in-place activation: one call writes behind a view, the other does not."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        view = y.flatten(1)
        self.relu(y)
        z = self.other(x)
        self.relu(z)
        return view, z


class TwoResults(nn.Module):
    """Two results of one call, of very different ranges."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1, 4), nn.Linear(1, 4)

    def forward(self, x):
        variance, mean = torch.var_mean(x * 30.0, dim=1, keepdim=True)
        return self.first(variance) + self.second(mean)


class ComputedWeight(nn.Module):
    """A weight that is computed, and one that is read twice."""

    def __init__(self):
        super().__init__()
        self.weight, self.square = nn.Parameter(torch.randn(16, 16)), nn.Parameter(torch.randn(16, 16))

    def forward(self, x):
        return F.linear(F.linear(F.linear(x, self.weight * 0.2), self.square), self.square.t())


class ReturnsInput(nn.Module):
    """An input that is an output too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(x), x


class SuffixNames(nn.Module):
    """Layers whose names are what a file derives from each other's."""

    def __init__(self):
        super().__init__()
        self.proj, self.proj_q, self.proj_qdq = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return self.proj_qdq(self.proj_q(self.proj(x)))


class BatchedConstant(nn.Module):
    """A constant operand of rank three."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 16, 5))

    def forward(self, x):
        return x.unsqueeze(1) @ self.matrix


class OwnsTheName(nn.Module):
    """A parameter with the name of fxquant's container."""

    def __init__(self):
        super().__init__()
        self.quantizers = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.quantizers)


def hooked():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    model[0].register_forward_hook(lambda module, inputs, output: output * 100.0)
    return model


def with_dead_channels():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    nn.init.zeros_(model[1].weight[:3])
    nn.init.ones_(model[1].bias)
    return model


IMAGE, ROWS = torch.rand(4, 3, 8, 8) * 0.3, torch.randn(4, 16)
CASES = {
    "shared in-place relu": (SharedInPlaceRelu, torch.randn(4, 3, 8, 8)),
    "two results of one call": (TwoResults, ROWS),
    "computed weight": (ComputedWeight, ROWS),
    "returns its input": (ReturnsInput, ROWS),
    "names with suffixes": (SuffixNames, ROWS),
    "constant of rank three": (BatchedConstant, ROWS),
    "parameter named quantizers": (OwnsTheName, IMAGE),
    "forward hook": (hooked, IMAGE),
    "dead channels": (with_dead_channels, IMAGE),
}


@pytest.fixture(params=CASES)
def case(request):
    make, batch = CASES[request.param]
    return make().eval(), batch


@pytest.mark.parametrize("target", digits.TARGETS)
def test_prepared_model_in_float_computes_what_the_model_computes(case, target):
    model, batch = case
    prepared = fxquant.prepare(model, target=target)
    interpreter = CalibrationInterpreter(prepared)
    with torch.no_grad():
        result = interpreter.run(*Signature(prepared).call(batch.clone()).args)
        torch.testing.assert_close(result, model(batch.clone()))


@pytest.mark.parametrize("target", digits.TARGETS)
def test_file_computes_what_was_simulated(case, target, tmp_path):
    model, batch = case
    quantized = fxquant.quantize(model, [batch], target=target).model
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [batch])
    assert report.unmatched == ()
    assert report.max_steps <= 1


@pytest.mark.parametrize("target", digits.TARGETS)
def test_simulation_is_close_to_the_model(case, target):
    model, batch = case
    simulated = fxquant.quantize(model, [batch], target=target).model(batch)
    wanted = model(batch)
    pairs = zip(simulated, wanted, strict=True) if isinstance(wanted, tuple) else [(simulated, wanted)]
    # eight bits, a few layers deep: a wrong range or a wrong rewrite is off by far more
    assert all((s - w).norm() <= 0.1 * w.norm() for s, w in pairs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_model_of_another_float_type_runs_after_convert(dtype):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval().to(dtype)
    quantized = fxquant.quantize(model, [IMAGE.to(dtype)]).model
    assert quantized(IMAGE.to(dtype)).dtype == dtype


def test_nan_in_the_model_shows_in_verify(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    model[2].bias.data[0] = float("nan")
    quantized = fxquant.quantize(model, [IMAGE]).model
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [IMAGE])
    assert report.outputs[0].nonfinite > 0
    assert "NaN or Inf" in str(report)


def test_example_inputs_of_prepare_are_those_of_export():
    prepared = fxquant.prepare(hooked().eval(), example_inputs=torch.zeros(2, 3, 16, 16))
    fxquant.calibrate(prepared, [IMAGE])
    assert prepared.meta["fxquant"].example.args[0].shape == (2, 3, 16, 16)


def test_remembered_batch_is_a_small_copy():
    prepared = fxquant.prepare(hooked().eval())
    batch = torch.rand(64, 3, 8, 8)
    fxquant.calibrate(prepared, [batch])
    (kept,) = prepared.meta["fxquant"].example.args
    assert torch.equal(kept, batch[:2])
    assert kept.untyped_storage().data_ptr() != batch.untyped_storage().data_ptr()


def test_evaluate_does_not_change_the_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    before = model[1].running_mean.clone()
    result = fxquant.quantize(model, [IMAGE], evaluate=lambda m: float(m(IMAGE).mean()))
    assert torch.equal(model[1].running_mean, before)
    assert model.training
    assert result.drop == pytest.approx(0.0, abs=0.05)


def test_pipeline_text_follows_the_target():
    text = (
        "canonicalize,remove-noop,fold-batch-norm,assign-specs,share-encodings,insert-quantizers,swap-modules"
    )
    prepared = fxquant.prepare(hooked().eval(), target="onnxruntime", config=text)
    assert (prepared.quantizers.input.qmin, prepared.quantizers.input.qmax) == (0, 255)
