"""Calibrators: what watches tensors and says how far their range goes."""

from fxquant.compat.pytorch_quantization.calib.histogram import HistogramCalibrator, calibrate_weights
from fxquant.compat.pytorch_quantization.calib.max import MaxCalibrator

__all__ = ["HistogramCalibrator", "MaxCalibrator", "calibrate_weights"]
