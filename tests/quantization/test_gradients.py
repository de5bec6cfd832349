"""The gradients of quantize_dequantize against the formulas of the module docstring."""

import pytest
import torch

from fxquant.quantization.functional import quantize_dequantize, scale_and_offset

QMIN, QMAX = 0, 15
SHAPES = pytest.mark.parametrize("shape", [(), (3, 1)], ids=["per-tensor", "per-channel"])

# The sums over a tensor of 60 float64 numbers below 20 round by less than 60 * 20 * eps.
ROUNDING = 60 * 20 * torch.finfo(torch.float64).eps


@pytest.fixture
def leaves(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a tensor that reaches beyond the grid on both sides, a scale and an offset, all in float64."""
    x = torch.randn(3, 20, dtype=torch.float64) * 3
    scale = torch.rand(shape, dtype=torch.float64) * 0.2 + 0.2
    offset = torch.randint(-9, -5, shape).double()
    return x.requires_grad_(), scale.requires_grad_(), offset.requires_grad_()


@SHAPES
def test_gradients_follow_the_formulas(
    leaves: tuple[torch.Tensor, torch.Tensor, torch.Tensor], shape: tuple[int, ...]
) -> None:
    x, scale, offset = leaves
    g = torch.randn(3, 20, dtype=torch.float64)
    found = torch.autograd.grad(quantize_dequantize(*leaves, QMIN, QMAX), leaves, g)

    with torch.no_grad():
        nearest = (x / scale).round()
        bound = torch.minimum(torch.maximum(nearest, QMIN + offset), QMAX + offset)
        inside = (nearest >= QMIN + offset) & (nearest <= QMAX + offset)
        dx = g * inside
        dscale = (g * torch.where(inside, nearest - x / scale, bound)).sum_to_size(shape)
        doffset = (g * torch.where(inside, 0.0, scale)).sum_to_size(shape)
    assert 0 < inside.sum() < inside.numel()
    torch.testing.assert_close(found, (dx, dscale, doffset), rtol=0, atol=ROUNDING)


@SHAPES
def test_gradients_outside_the_grid_are_true_derivatives(
    leaves: tuple[torch.Tensor, torch.Tensor, torch.Tensor], shape: tuple[int, ...]
) -> None:
    # A clipped value is (offset + qmin or qmax) * scale: smooth, so finite differences measure its gradient.
    _, scale, offset = leaves
    far = (torch.randn(3, 4, dtype=torch.float64).sign() * 100.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: quantize_dequantize(*t, QMIN, QMAX), (far, scale, offset))


def test_gradients_of_the_range_match_the_golden_values() -> None:
    minimum, maximum = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    x = torch.tensor([-3.0, -0.3, 0.2, 0.71, 4.0], requires_grad=True)
    scale, offset = scale_and_offset(minimum, maximum, 0, 255, symmetric=False)
    quantize_dequantize(x, scale, offset, 0, 255).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert minimum.grad.item() == pytest.approx(0.9952, abs=5e-5)  # the golden values have four digits
    assert maximum.grad.item() == pytest.approx(1.0048, abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_come_in_the_type_of_their_tensor(dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    quantize_dequantize(x, scale, torch.tensor(0.0), -128, 127).sum().backward()
    assert (x.grad.dtype, scale.grad.dtype) == (dtype, torch.float32)


def test_gradients_of_the_range_are_finite_for_large_half_tensors() -> None:
    scale = torch.tensor(1 / 128, requires_grad=True)
    x = torch.full((10_000,), 5.0, dtype=torch.float16)
    quantize_dequantize(x, scale, torch.tensor(0.0), -128, 127).sum().backward()
    assert scale.grad.item() == 127 * 10_000


def test_nothing_is_recorded_where_nothing_needs_a_gradient() -> None:
    x, scale, offset = torch.ones(3), torch.tensor(0.1), torch.tensor(0.0)
    assert quantize_dequantize(x, scale, offset, -128, 127).grad_fn is None


def test_nothing_is_recorded_under_no_grad() -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        output = quantize_dequantize(x, torch.tensor(0.1), torch.tensor(0.0), -128, 127)
    assert not output.requires_grad
