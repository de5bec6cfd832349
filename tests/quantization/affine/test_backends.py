"""AIMET's names for the place where affine quantization is computed."""

import pytest
import torch

from fxquant.errors import OptionError
from fxquant.quantization import affine
from fxquant.quantization.affine import backends


def test_there_is_one_backend() -> None:
    assert backends.get_backend() is backends.torch_builtins


def test_choosing_it_changes_nothing() -> None:
    with backends.set_backend("torch_builtins"):
        assert backends.get_backend() is backends.torch_builtins


def test_another_one_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no quantization backend 'triton'\. Known: torch_builtins\."):
        backends.set_backend("triton")


def test_the_functions_are_those_of_affine() -> None:
    names = "quantize", "quantize_dequantize", "dequantize"
    assert [getattr(backends, name) for name in names] == [getattr(affine, name) for name in names]


def test_the_backend_computes_what_the_functions_compute() -> None:
    x, scale, offset = torch.randn(9), torch.tensor(0.1), torch.tensor(0.0)
    found = backends.get_backend().quantize_dequantize(x, scale, offset, -8, 7)
    assert torch.equal(found, backends.quantize_dequantize(x, scale, offset, 4, True))
