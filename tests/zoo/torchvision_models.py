"""Torchvision architectures with seeded random weights: real graphs, no download.

A torchvision wheel built for CUDA cannot load its C++ ops beside a CPU build of torch, and then
`import torchvision` fails while it registers fake kernels for two of them. No classifier uses those ops, so
declaring their schemas is enough to import it.
"""

import importlib
import sys
from types import ModuleType

import torch
from torch import nn

# The ops torchvision registers fake kernels for at import, whether or not its C++ library was loaded.
_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_DECLARED_AT_IMPORT = ("torchvision::nms", "torchvision::qnms")

# those the tests go through: name -> options of its constructor
MODELS: dict[str, dict[str, bool]] = {
    "resnet18": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "efficientnet_b0": {},
    "densenet121": {},
    "vgg11_bn": {},
    "googlenet": {"aux_logits": False, "init_weights": False},  # its own initialisation takes many seconds
}


def build(name: str, seed: int = 0) -> nn.Module:
    """Return torchvision's model called `name` in eval mode, the same weights for the same seed.

    Its input is [batch, 3, height, width] with sides of at least 64. The caller's random state is untouched.
    """
    models = import_torchvision().models
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(models, name)(weights=None, **MODELS.get(name, {}))
        _settle_batch_norm(model)
    return model.eval()


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring the ops it insists on when its own C++ library did not load."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for module in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    for op in _DECLARED_AT_IMPORT:
        torch.library.define(op, _NMS_SCHEMA)
    return importlib.import_module("torchvision")


def _settle_batch_norm(model: nn.Module, batches: int = 3) -> None:
    """Give every batch norm the mean and variance of a few random batches, as training would have."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    model.train()
    with torch.no_grad():
        for _ in range(batches):
            model(torch.randn(8, 3, 64, 64))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
