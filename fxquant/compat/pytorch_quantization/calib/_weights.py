"""calibrate_weights: the amax of all weights of a model, from histograms of their magnitudes."""

import logging

import torch
from torch import nn

from fxquant.compat.pytorch_quantization.calib._amax_search import AmaxSearch
from fxquant.errors import OptionTypeError
from fxquant.quantization.encoding_analyzer.magnitude_histogram import even_histograms

log = logging.getLogger(__name__)

_CHANNELS_SECOND = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def calibrate_weights(
    model: nn.Module,
    method: str = "percentile",
    perchannel: bool = True,
    percentile: float = 99.99,
    num_bins: int = 2048,
) -> None:
    """Set the amax of the weight_quantizer of every module that has one.

    All channels of a weight are counted and searched together. A channel of zeros has an amax of 0.

    Args:
        model: Its modules with a ``weight`` and a ``weight_quantizer`` are calibrated.
        method: "max", "mse" or "percentile".
        perchannel: Whether each output channel gets its own amax, of size [out, 1, ..]; that is axis 1 of
            transposed convolutions, else axis 0.
        percentile: From 0 to 100.
        num_bins: Bins of the histograms, from 0 to the largest magnitude.

    Raises:
        OptionTypeError: If there is no such method; a TypeError.
        OptionError: If the percentile is out of range, or mse has no candidate in so few bins.
    """
    if method not in ("max", "mse", "percentile"):
        raise OptionTypeError(
            f"Unsupported calibration method {method}.", remedy="Choose 'max', 'mse' or 'percentile'."
        )
    for name, module in model.named_modules():
        weight, quantizer = getattr(module, "weight", None), getattr(module, "weight_quantizer", None)
        if weight is None or quantizer is None:
            continue
        log.info("Calibrate weight of %s", name)
        axis = int(isinstance(module, _CHANNELS_SECOND)) if perchannel else None
        shape = [1] * weight.dim()
        magnitudes = weight.detach().abs().float().cpu()
        if axis is None:
            rows, shape = magnitudes.reshape(1, -1), []
        else:
            shape[axis] = weight.shape[axis]
            rows = magnitudes.movedim(axis, 0).reshape(shape[axis], -1)
        if method == "max":
            amax = rows.amax(dim=1)
        else:
            counts, edges = even_histograms(rows, num_bins)
            amax = AmaxSearch(
                counts=counts.double(),
                edges=edges,
                num_bins=torch.full((len(rows),), num_bins),
                num_bits=quantizer.num_bits,
                unsigned=quantizer.unsigned,
            )(method, percentile)
        quantizer.amax = amax.reshape(shape).numpy()
