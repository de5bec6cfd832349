"""The digits classifier of the examples, quantized once per target for all tests that need it."""

import functools
import tempfile
from pathlib import Path

import torch
from torch import fx

import fxquant
from examples.digits.data import Split, load_split
from examples.digits.model import DigitsNet, load_trained
from fxquant.analysis import ParityReport
from fxquant.export import ExportedFiles

TARGETS = ("tensorrt", "onnxruntime")


@functools.cache
def split() -> Split:
    return load_split()


@functools.cache
def float_model() -> DigitsNet:
    return load_trained()


def calibration_batches() -> list[torch.Tensor]:
    return list(split().train_images.split(128)[:4])


def prepared(target: str) -> fx.GraphModule:
    """A fresh, calibrated prepared model."""
    model = fxquant.prepare(float_model(), target=target)
    fxquant.calibrate(model, calibration_batches())
    return model


@functools.cache
def quantized(target: str) -> fx.GraphModule:
    return fxquant.convert(prepared(target))


@functools.cache
def files(target: str) -> ExportedFiles:
    return fxquant.export(quantized(target), Path(tempfile.mkdtemp()))


@functools.cache
def parity(target: str) -> ParityReport:
    return fxquant.verify(quantized(target), files(target), split().test_images.split(200))
