"""ONNX Runtime's static quantizer, in the project's own environment. It simulates nothing."""

import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator
from torch import nn

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_KEPT = tempfile.TemporaryDirectory()


class _Reader(CalibrationDataReader):
    def __init__(self, batches, session) -> None:
        self._batches, self._session = iter(batches), session

    def get_next(self) -> dict | None:
        batch = next(self._batches, None)
        return None if batch is None else _feeds(batch, self._session)


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    path = _exported(model, batch)
    for measure, method in _METHODS.items():
        calibrator = create_calibrator(
            path, augmented_model_path=str(path.with_suffix(".seen.onnx")), calibrate_method=method
        )
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # as the calibrator's own
        calibrator.infer_session = _session(calibrator.augmented_model_path, level)

        def calibrate(batches, calibrator=calibrator):
            calibrator.collect_data(_Reader(batches, calibrator.infer_session))
            calibrator.compute_data()

        yield Job(measure=measure, note=method.name, run=calibrate)


def _float_forward(model: nn.Module, batch: Batch) -> Callable[[Batch], object]:
    session = _session(_exported(model, batch))
    return lambda one: session.run(None, _feeds(one, session))


def _exported(model: nn.Module, batch: Batch) -> Path:
    path = Path(_KEPT.name) / f"{type(model).__name__}.onnx"
    args, kwargs = ((), batch) if isinstance(batch, dict) else ((batch,), {})
    torch.onnx.export(model, args, str(path), kwargs=kwargs, dynamo=True, verbose=False, external_data=False)
    return path


def _session(path: str | Path, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feeds(batch: Batch, session) -> dict:
    tensors = batch.values() if isinstance(batch, dict) else [batch]
    return {value.name: one.numpy() for value, one in zip(session.get_inputs(), tensors, strict=True)}


PEER = Peer(title=f"ONNX Runtime {version('onnxruntime')}", jobs=_jobs, float_forward=_float_forward)
