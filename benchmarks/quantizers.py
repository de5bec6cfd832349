"""Timings of the quantizers, in copies of their tensor; beside torch's and, where installed, AIMET's."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import Row, ratios
from fxquant.quantization import affine
from tests.zoo.torchvision_models import import_torchvision

ACTIVATION, WEIGHT = (8, 64, 112, 112), (2048, 2048)
KINDS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("activation, per tensor", ACTIVATION, {"shape": (), "bitwidth": 8, "symmetric": False}),
    ("weight, per channel", WEIGHT, {"shape": (2048, 1), "bitwidth": 8, "symmetric": True}),
    (
        "weight, blocks of 32",
        WEIGHT,
        {"shape": (2048, 64), "bitwidth": 4, "symmetric": True, "block_size": (1, 32)},
    ),
)


def measure_inference() -> list[Row]:
    """Return one row per kind of quantizer: eager and compiled, torch's own and AIMET's."""
    torch.set_num_threads(1)
    rows = []
    for label, tensor_shape, arguments in KINDS:
        tensor = torch.randn(tensor_shape)
        quantizer = _calibrated(affine.QuantizeDequantize(**arguments), tensor).requires_grad_(False)
        compiled = torch.compile(quantizer)
        steps: dict[str, Callable[[], object]] = {
            "fxquant": lambda q=quantizer, x=tensor: q(x),  # type: ignore[misc]  # bound now
            "fxquant, compiled": lambda q=compiled, x=tensor: q(x),  # type: ignore[misc]  # bound now
        }
        steps |= _torch_steps(quantizer, tensor) | _peer_steps(arguments, tensor, trains_range=False)
        with torch.no_grad():
            rows.append(_row(label, steps, tensor))
    return rows


def measure_training() -> list[Row]:
    """Return one row per kind of quantizer: forward and backward, the range fixed or trained."""
    torch.set_num_threads(1)
    rows = []
    for label, tensor_shape, arguments in KINDS:
        tensor = torch.randn(tensor_shape, requires_grad=True)
        gradient = torch.randn(tensor_shape)
        fixed = _calibrated(affine.QuantizeDequantize(**arguments), tensor.detach()).requires_grad_(False)
        trained = _calibrated(affine.QuantizeDequantize(**arguments), tensor.detach())
        steps: dict[str, Callable[[], object]] = {
            "fxquant, range fixed": lambda q=fixed, x=tensor, g=gradient: _step(q, x, g),  # type: ignore[misc]
            "fxquant, range trained": lambda q=trained, x=tensor, g=gradient: _step(q, x, g),  # type: ignore[misc]
        }
        steps |= {
            name: (lambda f=step, x=tensor, g=gradient: f(x).backward(g))  # type: ignore[misc]
            for name, step in _torch_functions(fixed, tensor).items()
        }
        steps |= _peer_steps(arguments, tensor, trains_range=True, gradient=gradient)
        rows.append(_row(label, steps, tensor.detach()))
    return rows


def _row(label: str, steps: dict[str, Callable[[], object]], tensor: torch.Tensor) -> Row:
    names = [
        "fxquant",
        "fxquant, compiled",
        "fxquant, range fixed",
        "fxquant, range trained",
        "torch.fake_quantize",
        "AIMET 2.42",
    ]
    measured = ratios(steps, tensor.clone)
    shown = [name for name in names if name in measured or name[:3] in ("tor", "AIM")]
    return {"quantizer": label, **{name: measured.get(name, "-") for name in shown}}


def _calibrated(quantizer: Any, tensor: torch.Tensor) -> Any:
    with quantizer.compute_encodings():
        quantizer(tensor)
    return quantizer


def _step(quantizer: Any, tensor: torch.Tensor, gradient: torch.Tensor) -> None:
    quantizer(tensor).backward(gradient)


def _torch_functions(
    quantizer: Any, tensor: torch.Tensor
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Return torch's own fake quantization on the same grid, where there is one."""
    encoding = quantizer.get_encodings()
    scale, zero_point = encoding.scale.detach().reshape(-1), encoding.zero_point.detach().reshape(-1)
    grid = encoding.qmin, encoding.qmax
    if encoding.granularity == "pertensor":
        return {
            "torch.fake_quantize": lambda x: torch.fake_quantize_per_tensor_affine(
                x, float(scale), int(zero_point), *grid
            )
        }
    if encoding.granularity == "perchannel":
        return {
            "torch.fake_quantize": lambda x: torch.fake_quantize_per_channel_affine(
                x, scale, zero_point, 0, *grid
            )
        }
    return {}


def _torch_steps(quantizer: Any, tensor: torch.Tensor) -> dict[str, Callable[[], object]]:
    functions = _torch_functions(quantizer, tensor)
    return {name: (lambda f=function, x=tensor: f(x)) for name, function in functions.items()}  # type: ignore[misc]


def _peer_steps(
    arguments: dict[str, Any], tensor: torch.Tensor, trains_range: bool, gradient: torch.Tensor | None = None
) -> dict[str, Callable[[], object]]:
    """Return AIMET's quantizer of the same arguments; nothing where aimet-torch is not installed."""
    try:
        import_torchvision()
        peers = importlib.import_module("aimet_torch.quantization")
    except ImportError:
        return {}
    quantizer = _calibrated(peers.affine.QuantizeDequantize(**arguments), tensor.detach())
    quantizer.requires_grad_(trains_range)
    if gradient is None:
        return {"AIMET 2.42": lambda: quantizer(tensor)}
    return {"AIMET 2.42": lambda: _step(quantizer, tensor, gradient)}
