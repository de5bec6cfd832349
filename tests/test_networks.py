import pytest
import torch

import fxquant
from fxquant.calibration import CalibrationInterpreter, Signature
from fxquant.graph import capture
from tests import digits
from tests.networks import cases

CASES = cases()


def run(model, batch):
    """Run a model on a copy: some of the networks write into their input."""
    if isinstance(batch, dict):
        return model(**{name: value.clone() for name, value in batch.items()})
    return model(batch.clone())


@pytest.mark.parametrize("target", digits.TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_exported_network_does_what_was_simulated(name, target, tmp_path):
    model, batch = CASES[name]
    quantized = fxquant.quantize(model, [batch], target=target).model
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [batch])
    assert report.unmatched == ()
    assert report.max_steps <= 1
    assert report.tensors


@pytest.mark.parametrize("target", digits.TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_prepared_network_run_in_float_equals_the_captured_one(name, target):
    model, batch = CASES[name]
    captured = capture(model)
    prepared = fxquant.prepare(model, target=target, config=pipeline_without_folding(target))
    example = Signature(prepared).call(batch if isinstance(batch, dict) else batch.clone())
    interpreter = CalibrationInterpreter(prepared)
    result = interpreter.run(*example.args, *example.kwargs.values())
    torch.testing.assert_close(result, run(captured, batch), rtol=0, atol=0)


def pipeline_without_folding(target):
    passes = {
        "tensorrt": "assign-residual-branches,legalize-outputs",
        "onnxruntime": "assign-outputs{target=onnxruntime}",
    }
    return (
        f"canonicalize,remove-noop,assign-specs{{target={target}}},{passes[target]},"
        "share-encodings,insert-quantizers,swap-modules"
    )
