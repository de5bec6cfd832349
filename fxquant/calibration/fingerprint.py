"""fingerprint_of: a text that tells prepared models apart."""

import hashlib

import torch
from torch import fx

from fxquant.calibration.sites import activation_sites
from fxquant.calibration.statistics import Statistics
from fxquant.quantization import QuantizerBase


def fingerprint_of(gm: fx.GraphModule, statistics: Statistics) -> str:
    """Return a text that is the same for models with the same quantizers and weights, and for equal kinds.

    Weights are told apart by their ends. The ranges of quantizers do not count: calibration changes them.
    """
    digest = hashlib.sha256(repr(sorted(kind.value for kind in statistics.kinds)).encode())
    for site in activation_sites(gm):
        digest.update(f"{site.name} {site.quantizer.shape}".encode())
    for path, module in gm.named_modules():
        if isinstance(module, QuantizerBase):
            continue
        for name, parameter in module.named_parameters(path, recurse=False):
            digest.update(f"{name} {tuple(parameter.shape)}".encode())
            if type(parameter.data) is torch.Tensor and parameter.numel() and parameter.is_floating_point():
                digest.update(repr([end.item() for end in torch.aminmax(parameter.detach())]).encode())
    return digest.hexdigest()
