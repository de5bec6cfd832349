"""The gradients against the formulas of the module docstring, and what is kept for them."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from fxquant.quantization.functional import dequantize, quantize, quantize_dequantize, scale_and_offset

QMIN, QMAX = 0, 15
LARGE = 2 * 65536  # elements from which on tensors are worked on in pieces, with one thread

# [tensor, scale, block size]
GRANULARITIES = pytest.mark.parametrize(
    ("shape", "scale_shape", "block_size"),
    [
        ((3, 20), (), None),
        ((3, 20), (3, 1), None),
        ((3, 20), (20,), None),
        ((4, 20), (2, 5), (2, 4)),
        ((4, 20), (4, 5), (1, -1)),
        ((2, 4, 10), (2, 5), (2, -1)),
    ],
    ids=["tensor", "rows", "columns", "blocks", "blocks-of-rows", "blocks-broadcast"],
)
SHIFTS = pytest.mark.parametrize("shift", [0.0, 0.5], ids=["plain", "shifted"])

# The sums over a tensor of 80 float64 numbers below 20 round by less than 80 * 20 * eps.
ROUNDING = 80 * 20 * torch.finfo(torch.float64).eps

Leaves = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors alike on every machine: the size of a piece goes by the number of threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.fixture
def leaves(shape: tuple[int, ...], scale_shape: tuple[int, ...]) -> Leaves:
    """Return a tensor that reaches beyond the grid on both sides, a scale and an offset, all in float64."""
    return make_leaves(shape, scale_shape)


def make_leaves(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> Leaves:
    x = torch.randn(shape, dtype=dtype) * 3
    scale = torch.rand(scale_shape, dtype=dtype) * 0.2 + 0.2
    offset = torch.randint(-9, -5, scale_shape).to(dtype)
    return x.requires_grad_(), scale.requires_grad_(), offset.requires_grad_()


def spread(parameter: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the entry that serves each element of a tensor, in its shape."""
    full = parameter.reshape((1,) * (len(shape) - parameter.dim()) + parameter.shape)
    return torch.kron(full, torch.ones([t // s for t, s in zip(shape, full.shape, strict=True)]))


def served(gradient: torch.Tensor, scale_shape: tuple[int, ...]) -> torch.Tensor:
    """Return a gradient per element summed over what each entry of a scale serves."""
    index = torch.arange(torch.Size(scale_shape).numel()).reshape(scale_shape).double()
    owner = spread(index, tuple(gradient.shape)).long().flatten()
    return (
        torch.zeros(index.numel(), dtype=gradient.dtype)
        .index_add(0, owner, gradient.flatten())
        .view(scale_shape)
    )


def by_formula(leaves: Leaves, g: torch.Tensor, shift: float) -> Leaves:
    """Return the gradients of quantize_dequantize as the module docstring has them."""
    x, scale, offset = (leaf.detach().double() for leaf in leaves)
    s, o = spread(scale, tuple(x.shape)), spread(offset, tuple(x.shape))
    ratio = x / s - shift
    nearest = ratio.round()
    low, high = QMIN + o, QMAX + o
    inside = (nearest >= low) & (nearest <= high)
    bound = torch.minimum(torch.maximum(nearest, low), high)
    dscale = served(g * torch.where(inside, nearest - ratio, bound), tuple(scale.shape))
    doffset = served(g * torch.where(inside, 0.0, s), tuple(scale.shape))
    return g * inside, dscale, doffset


@SHIFTS
@GRANULARITIES
def test_gradients_of_quantize_dequantize_follow_the_formulas(
    leaves: Leaves, block_size: tuple[int, ...] | None, shift: float
) -> None:
    g = torch.randn_like(leaves[0])
    output = quantize_dequantize(*leaves, QMIN, QMAX, block_size, shift)
    found = torch.autograd.grad(output, leaves, g)
    expected = by_formula(leaves, g, shift)
    assert 0 < expected[0].count_nonzero() < g.numel()  # some are inside, some are not
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    "trained",
    [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)],
    ids=["input", "scale", "offset", "input-scale", "input-offset", "scale-offset"],
)
@GRANULARITIES
def test_each_gradient_is_the_same_whatever_else_is_trained(
    leaves: Leaves, block_size: tuple[int, ...] | None, trained: tuple[int, ...]
) -> None:
    g = torch.randn_like(leaves[0])
    chosen = [leaf.requires_grad_(index in trained) for index, leaf in enumerate(leaves)]
    found = torch.autograd.grad(
        quantize_dequantize(*leaves, QMIN, QMAX, block_size), [chosen[index] for index in trained], g
    )
    expected = by_formula(leaves, g, 0.0)
    torch.testing.assert_close(found, tuple(expected[index] for index in trained), rtol=0, atol=ROUNDING)


@GRANULARITIES
def test_gradients_of_quantize_follow_the_formulas(
    leaves: Leaves, scale_shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    g = torch.randn_like(leaves[0])
    found = torch.autograd.grad(quantize(*leaves, QMIN, QMAX, block_size), leaves, g)
    x, scale, offset = (leaf.detach() for leaf in leaves)
    s, o = spread(scale, tuple(x.shape)), spread(offset, tuple(x.shape))
    codes = (x / s).round() - o
    inside = (codes >= QMIN) & (codes <= QMAX)
    expected = g * inside / s, served(-g * inside * x / s**2, scale_shape), served(-g * inside, scale_shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=5 * ROUNDING)  # s divides: 1 / 0.2


@GRANULARITIES
def test_gradients_of_dequantize_are_true_derivatives(
    leaves: Leaves, block_size: tuple[int, ...] | None
) -> None:
    assert torch.autograd.gradcheck(lambda *t: dequantize(*t, block_size), leaves)


@SHIFTS
@GRANULARITIES
def test_gradients_outside_the_grid_are_true_derivatives(
    leaves: Leaves, block_size: tuple[int, ...] | None, shift: float
) -> None:
    # A clipped value is (offset + shift + qmin or qmax) * scale: smooth, so finite differences measure it.
    # But not for the scale of a shifted grid: its formula leaves the shift out.
    x, scale, offset = leaves
    far = (x.detach().sign() * 100.0).requires_grad_()
    trained = (far, scale.requires_grad_(shift == 0.0), offset)
    assert torch.autograd.gradcheck(
        lambda *t: quantize_dequantize(*t, QMIN, QMAX, block_size, shift), trained
    )


@pytest.mark.parametrize(
    ("shape", "scale_shape", "block_size"),
    [
        ((LARGE + 3,), (), None),
        ((8, LARGE // 8 + 3), (8, 1), None),
        ((8, LARGE // 8 + 3), (LARGE // 8 + 3,), None),
        ((1, 8, LARGE // 8 + 3), (1, 8, 1), None),
        ((8, LARGE // 4), (8, 64), (1, -1)),
        ((8, LARGE // 4), (2, 64), (4, -1)),
        ((2, 8, LARGE // 8), (2, 64), (4, -1)),
    ],
    ids=["tensor", "rows", "columns", "leading-one", "blocks-of-rows", "blocks", "blocks-broadcast"],
)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_gradients_of_large_tensors_are_those_of_the_formulas(
    leaves: Leaves, block_size: tuple[int, ...] | None, layout: str
) -> None:
    x, scale, offset = leaves
    layouts = {
        "contiguous": x,
        "transposed": x.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_(),
    }
    leaves = layouts[layout], scale, offset
    g = torch.randn_like(x)
    found = torch.autograd.grad(quantize_dequantize(*leaves, QMIN, QMAX, block_size), leaves, g)
    expected = by_formula(leaves, g, 0.0)
    # the worst case of sums of LARGE float64 numbers below 40
    torch.testing.assert_close(found, expected, rtol=0, atol=LARGE * 40 * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("scale_shape", [(), (8, 1)], ids=["tensor", "rows"])
def test_a_large_frozen_range_gives_the_same_values_and_mask(scale_shape: tuple[int, ...]) -> None:
    x, scale, offset = make_leaves((8, LARGE // 8 + 3), scale_shape)
    scale, offset = scale.detach(), offset.detach()
    g = torch.randn_like(x)
    output = quantize_dequantize(x, scale, offset, QMIN, QMAX)
    (found,) = torch.autograd.grad(output, x, g)
    assert torch.equal(output, quantize_dequantize(x.detach(), scale, offset, QMIN, QMAX))
    assert torch.equal(found, by_formula((x, scale, offset), g, 0.0)[0])


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_an_expanded_gradient_is_taken(large: bool) -> None:
    x, scale, offset = make_leaves((LARGE + 8 if large else 8,), ())
    output = quantize_dequantize(x, scale, offset, QMIN, QMAX)
    found = torch.autograd.grad(output.sum(), (x, scale, offset))
    expected = by_formula((x, scale, offset), torch.ones_like(x), 0.0)
    # the order of float64 sums: at most an eps per element
    torch.testing.assert_close(found, expected, rtol=LARGE * torch.finfo(torch.float64).eps, atol=0)


def test_gradients_of_the_range_match_the_golden_values() -> None:
    minimum, maximum = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    x = torch.tensor([-3.0, -0.3, 0.2, 0.71, 4.0], requires_grad=True)
    scale, offset = scale_and_offset(minimum, maximum, 0, 255, symmetric=False)
    quantize_dequantize(x, scale, offset, 0, 255).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert minimum.grad.item() == pytest.approx(0.9952, abs=5e-5)  # the golden values have four digits
    assert maximum.grad.item() == pytest.approx(1.0048, abs=5e-5)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 3e38, -3e38], ids=str)
@pytest.mark.parametrize("size", [1, LARGE + 1], ids=["small", "large"])
def test_infinite_inputs_give_finite_gradients_of_the_range(value: float, size: int) -> None:
    x = torch.full((size,), value, requires_grad=True)
    scale, offset = torch.tensor(0.5, requires_grad=True), torch.tensor(-8.0, requires_grad=True)
    quantize_dequantize(x, scale, offset, QMIN, QMAX).mean().backward()
    assert (x.grad == 0).all()
    assert scale.grad.item() == pytest.approx(7.0 if value > 0 else -8.0, rel=1e-4)
    assert offset.grad.item() == pytest.approx(0.5, rel=1e-4)


def test_nan_gets_no_gradient_and_gives_the_scale_a_nan() -> None:
    x = torch.tensor([float("nan"), 1.0], requires_grad=True)
    scale, offset = torch.tensor(0.5, requires_grad=True), torch.tensor(-8.0, requires_grad=True)
    quantize_dequantize(x, scale, offset, QMIN, QMAX).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]
    assert bool(scale.grad.isnan())


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_come_in_the_type_of_their_tensor(function: object, dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    scale, offset = torch.tensor(0.1, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    output = function(x, scale, offset, -128, 127)  # type: ignore[operator]
    output.sum().backward()
    assert (output.dtype, x.grad.dtype) == (dtype, dtype)
    assert (scale.grad.dtype, offset.grad.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_half_tensors_are_those_of_the_same_float32_values(dtype: torch.dtype) -> None:
    x = (torch.randn(2, 50) * 3).to(dtype)
    scale, offset = torch.tensor([[0.25], [0.5]]), torch.tensor([[-8.0], [-7.0]])  # exact in every type
    leaves = x.requires_grad_(), scale.requires_grad_(), offset.requires_grad_()
    wide = x.detach().float().requires_grad_(), scale, offset
    found = torch.autograd.grad(quantize_dequantize(*leaves, QMIN, QMAX).sum(), leaves)
    expected = torch.autograd.grad(quantize_dequantize(*wide, QMIN, QMAX).sum(), wide)
    assert torch.equal(found[0].float(), expected[0])
    # x / s is exact here, and sums are float32: 50 numbers of at most 8, each rounded to the half type before
    torch.testing.assert_close(found[1:], expected[1:], rtol=0, atol=50 * 8 * torch.finfo(dtype).eps)


def test_gradients_of_the_range_are_finite_for_large_half_tensors() -> None:
    scale = torch.tensor(1 / 128, requires_grad=True)
    x = torch.full((10_000,), 5.0, dtype=torch.float16)
    quantize_dequantize(x, scale, torch.tensor(0.0), -128, 127).sum().backward()
    assert scale.grad.item() == 127 * 10_000


@pytest.mark.parametrize(
    ("trained", "kept"),
    [((0,), [("int8", (4, 9))]), ((0, 1), [("float32", (4, 9)), ("float32", ()), ("float32", ())])],
    ids=["frozen-range", "trained-range"],
)
def test_a_frozen_range_keeps_a_byte_per_element_and_a_trained_one_the_input(
    trained: tuple[int, ...], kept: list[tuple[str, tuple[int, ...]]]
) -> None:
    leaves = make_leaves((4, 9), (), torch.float32)
    found = saved_by(*(leaf.requires_grad_(index in trained) for index, leaf in enumerate(leaves)))
    assert [(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for t in found] == kept


def test_the_input_kept_for_a_trained_range_is_no_copy() -> None:
    x, scale, offset = make_leaves((4, 9), (), torch.float32)
    assert saved_by(x, scale, offset)[0].data_ptr() == x.data_ptr()


def test_a_frozen_range_does_not_keep_the_input_of_quantize() -> None:
    x, scale, offset = make_leaves((4, 9), (), torch.float32)
    packed: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (packed.append(t), t)[1], lambda t: t):
        quantize(x, scale.detach(), offset.detach(), QMIN, QMAX)
    assert x.data_ptr() not in {tensor.data_ptr() for tensor in packed}


def saved_by(x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> list[torch.Tensor]:
    """Return what quantize_dequantize saves for its backward."""
    packed: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (packed.append(t), t)[1], lambda t: t):
        quantize_dequantize(x, scale, offset, QMIN, QMAX)
    return packed


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
def test_nothing_is_recorded_where_nothing_needs_a_gradient(function: object) -> None:
    x, scale, offset = torch.ones(3), torch.tensor(0.1), torch.tensor(0.0)
    assert function(x, scale, offset, -128, 127).grad_fn is None  # type: ignore[operator]


def test_nothing_is_recorded_under_no_grad() -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        output = quantize_dequantize(x, torch.tensor(0.1), torch.tensor(0.0), -128, 127)
    assert not output.requires_grad


@pytest.mark.parametrize(
    "trained", [(0,), (0, 1), (0, 1, 2)], ids=["frozen-range", "trained-scale", "trained-range"]
)
def test_gradients_survive_activation_checkpointing(trained: tuple[int, ...]) -> None:
    leaves = [leaf.requires_grad_(i in trained) for i, leaf in enumerate(make_leaves((4, 9), ()))]
    chosen = [leaves[index] for index in trained]
    expected = torch.autograd.grad(quantize_dequantize(*leaves, QMIN, QMAX).sum(), chosen)
    output = checkpoint(quantize_dequantize, *leaves, QMIN, QMAX, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), chosen), expected, rtol=0, atol=0)


@pytest.mark.parametrize("function", [quantize, dequantize], ids=["quantize", "dequantize"])
def test_gradients_of_the_others_survive_it_too(function: object) -> None:
    leaves, grid = make_leaves((4, 9), ()), {quantize: (QMIN, QMAX), dequantize: ()}[function]
    expected = torch.autograd.grad(function(*leaves, *grid).sum(), leaves)  # type: ignore[operator]
    output = checkpoint(function, *leaves, *grid, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), leaves), expected, rtol=0, atol=0)


def test_a_second_backward_needs_a_retained_graph_only() -> None:
    leaves = make_leaves((4, 9), ())
    output = quantize_dequantize(*leaves, QMIN, QMAX).sum()
    first = torch.autograd.grad(output, leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(output, leaves), first, rtol=0, atol=0)
