"""Layer forms: calls of functions on constant parameters as layers that hold them."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.layer_form import LAYER_NORM

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
GAIN, SHIFT = torch.rand(8) + 0.5, torch.rand(8)


def layer_of(held: dict[str, torch.Tensor], **given: Any) -> nn.Module | None:
    """Return the layer with the held tensors in it."""
    layer = LAYER_NORM.make(held, given, X.dim())
    for name, tensor in held.items() if layer is not None else ():
        setattr(layer, name, nn.Parameter(tensor))
    return layer


@pytest.mark.parametrize("held", [{"weight": GAIN}, {"weight": GAIN, "bias": SHIFT}], ids=["gain", "shift"])
@pytest.mark.parametrize("given", [{}, {"eps": 0.5}], ids=["usual eps", "own eps"])
@pytest.mark.parametrize("shape", [8, (8,), [8]], ids=str)
def test_a_layer_norm_computes_what_the_call_does(
    held: dict[str, torch.Tensor], given: dict[str, Any], shape: Any
) -> None:
    layer = layer_of(held, normalized_shape=shape, **given)
    assert isinstance(layer, nn.LayerNorm)
    assert torch.equal(layer(X), F.layer_norm(X, (8,), **held, **given))


@pytest.mark.parametrize(
    ("held", "shape"),
    [({}, (8,)), ({"bias": SHIFT}, (8,)), ({"weight": GAIN}, (5, 8)), ({"weight": GAIN}, None)],
    ids=["nothing held", "bias alone", "another shape", "no shape"],
)
def test_a_call_that_no_layer_norm_computes_stays(held: dict[str, torch.Tensor], shape: Any) -> None:
    assert layer_of(held, normalized_shape=shape) is None
