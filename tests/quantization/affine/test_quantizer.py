"""Quantize, QuantizeDequantize and Dequantize: how they agree, with torch around them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fxquant.quantization import DequantizedTensor, QuantizedTensor
from fxquant.quantization.affine import AffineQuantizerBase, Dequantize, Quantize, QuantizeDequantize
from fxquant.quantization.affine import dequantize as dequantize_function
from fxquant.quantization.affine import quantize as quantize_function
from fxquant.quantization.affine import quantize_dequantize as quantize_dequantize_function
from tests.quantization.strategies import LAYOUTS, ranges, tensors, tensors_of

# [shape, block size], for tensors of shape [4, 6]
GRANULARITIES = pytest.mark.parametrize(
    ("shape", "block_size"),
    [((), None), ((4, 1), None), ((6,), None), ((2, 3), (2, 2)), ((4, 2), (1, -1)), ((2, 2), (-1, -1))],
    ids=["tensor", "rows", "columns", "blocks", "blocks-of-rows", "blocks-open"],
)


def made(
    kind: type[AffineQuantizerBase],
    bounds: tuple[float, float] = (-1.0, 1.0),
    shape: tuple[int, ...] = (),
    bitwidth: int = 8,
    symmetric: bool = False,
    block_size: tuple[int, ...] | None = None,
) -> AffineQuantizerBase:
    quantizer = kind(shape, bitwidth, symmetric, block_size=block_size)
    quantizer.set_range(*bounds)
    return quantizer


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@GRANULARITIES
@settings(max_examples=50)
@given(tensor=tensors_of((4, 6)), bounds=ranges(), bitwidth=st.integers(2, 16))
def test_the_three_quantizers_agree(
    shape: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    symmetric: bool,
    tensor: torch.Tensor,
    bounds: tuple[float, float],
    bitwidth: int,
) -> None:
    quantize, quantize_dequantize, dequantize = (
        made(kind, bounds, shape, bitwidth, symmetric, block_size)
        for kind in (Quantize, QuantizeDequantize, Dequantize)
    )
    codes, real = quantize(tensor), quantize_dequantize(tensor)
    assert (type(codes), type(real), type(dequantize(codes))) == (
        QuantizedTensor,
        DequantizedTensor,
        DequantizedTensor,
    )
    assert torch.equal(codes.dequantize(), real)
    assert torch.equal(real.quantize(), codes)
    assert torch.equal(dequantize(codes), real)


@GRANULARITIES
@given(tensor=tensors_of((4, 6)))
def test_a_quantizer_is_the_function_of_its_scale_and_offset(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None, tensor: torch.Tensor
) -> None:
    quantizer = made(QuantizeDequantize, shape=shape, block_size=block_size)
    scale, offset = quantizer.get_scale(), quantizer.get_offset()
    found = quantize_dequantize_function(tensor, scale, offset, 8, block_size=block_size)
    assert torch.equal(quantizer(tensor), found)
    codes = quantize_function(tensor, scale, offset, 8, block_size=block_size)
    assert torch.equal(dequantize_function(codes, scale, offset, block_size), found)


@given(tensor=tensors(), bounds=ranges(), bitwidth=st.integers(2, 21))
def test_codes_are_those_of_onnx_quantize_linear(
    tensor: torch.Tensor, bounds: tuple[float, float], bitwidth: int
) -> None:
    quantizer = made(Quantize, bounds, bitwidth=bitwidth)
    scale, zero_point = quantizer.get_scale().detach().numpy(), -quantizer.get_offset().detach().numpy()
    expected = np.clip(np.rint(tensor.numpy() / scale) + zero_point, 0, 2**bitwidth - 1)
    assert np.array_equal(quantizer(tensor).detach().numpy(), expected)


@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize], ids=lambda kind: kind.__name__)
@given(tensor=tensors(), bounds=ranges())
def test_putting_a_tensor_on_its_grid_twice_changes_nothing(
    kind: type[AffineQuantizerBase], tensor: torch.Tensor, bounds: tuple[float, float]
) -> None:
    quantizer = made(kind, bounds)
    once = quantizer(tensor)
    assert torch.equal(quantizer(once.dequantize()), once)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [((), None), ((4, 1, 1), None), ((1, 2, 1, 1), (-1, 2, -1, -1))],
    ids=["tensor", "channel", "block"],
)
def test_memory_layout_changes_neither_range_nor_values(
    layout: str, shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    x = LAYOUTS[layout](torch.randn(2, 4, 5, 3))
    first, second = (QuantizeDequantize(shape, 8, False, block_size=block_size) for _ in range(2))
    first.calibrate(x)
    second.calibrate(x.contiguous())
    assert torch.equal(first.get_scale(), second.get_scale())
    assert torch.equal(first(x), second(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize, Dequantize], ids=lambda kind: kind.__name__)
def test_the_output_has_the_type_of_the_input(kind: type[AffineQuantizerBase], dtype: torch.dtype) -> None:
    output = made(kind)(torch.tensor([0.0, 1.0], dtype=dtype))
    assert (output.dtype, output.encoding.scale.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize, Dequantize], ids=lambda kind: kind.__name__)
def test_a_quantizer_takes_quantized_tensors_and_parameters(kind: type[AffineQuantizerBase]) -> None:
    quantizer, x = made(kind), torch.tensor([0.0, 1.0])
    expected = quantizer(x)
    assert torch.equal(quantizer(nn.Parameter(x)), expected)
    assert torch.equal(quantizer(DequantizedTensor(x)), expected)


@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize, Dequantize], ids=lambda kind: kind.__name__)
def test_outputs_may_be_plain(kind: type[AffineQuantizerBase]) -> None:
    quantizer = made(kind)
    quantizer.returns_encoding = False
    assert type(quantizer(torch.ones(2))) is torch.Tensor


@pytest.mark.parametrize("tensor", [torch.arange(3), torch.tensor([True])], ids=["integer", "bool"])
def test_integers_pass_through_plain(tensor: torch.Tensor) -> None:
    found = made(QuantizeDequantize)(tensor)
    assert type(found) is torch.Tensor


@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize], ids=lambda kind: kind.__name__)
def test_integers_calibrate_nothing(kind: type[AffineQuantizerBase]) -> None:
    quantizer, codes = kind((), 8, True), torch.arange(3)
    with quantizer.compute_encodings():
        assert quantizer(codes) is codes
    assert not quantizer.is_initialized()


@pytest.mark.parametrize(
    ("shape", "block_size", "tensor", "message"),
    [
        ((3, 1), None, (4, 4), "cannot be expanded like input tensor"),
        ((4,), None, (), "cannot be expanded like input tensor"),
        ((2, 2), (1, 3), (2, 4), "must equal the corresponding scale dimension size"),
        ((2, 3), (1, -1), (2, 4), "must equal the corresponding scale dimension size"),
        ((2, 2), (1, 0), (2, 4), "must equal the corresponding scale dimension size"),
        ((2, 2), (1, -2), (2, 4), "must equal the corresponding scale dimension size"),
        ((2, 2), (1, 2), (4,), "do not have matching ranks"),
        ((2, 2), (1, 1, 1), (2, 4), "do not have matching ranks"),
    ],
    ids=str,
)
@pytest.mark.parametrize("calibrates", [False, True], ids=["call", "calibration"])
def test_a_tensor_that_the_range_does_not_fit_is_refused(
    shape: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    tensor: tuple[int, ...],
    message: str,
    calibrates: bool,
) -> None:
    quantizer = made(QuantizeDequantize, shape=shape, block_size=block_size)
    quantizer.allow_overwrite(calibrates)  # else calls in the context below are ordinary ones
    with pytest.raises(RuntimeError, match=message), quantizer.compute_encodings():
        quantizer(torch.randn(tensor))


def test_meta_tensors_have_shapes_only() -> None:
    quantizer = made(QuantizeDequantize, shape=(4, 2), block_size=(1, 3)).to("meta")
    output = quantizer(torch.empty(4, 6, device="meta"))
    assert (output.shape, output.device.type, output.encoding.scale.shape) == ((4, 6), "meta", (4, 2))


def test_a_shared_quantizer_sees_all_and_serves_all() -> None:
    shared = QuantizeDequantize((), 8, False)
    model = nn.ModuleDict({"first": nn.Sequential(shared), "second": nn.Sequential(nn.ReLU(), shared)})
    with shared.compute_encodings():
        model["first"](torch.tensor([-2.0])), model["second"](torch.tensor([-9.0, 3.0]))
    assert (shared.min.item(), shared.max.item()) == (-2.0, 3.0)
    assert [name for name, _ in model.named_parameters()] == ["first.0.min", "first.0.max"]
    outputs = model["first"](torch.ones(1)), model["second"](torch.ones(1))
    (outputs[0] + outputs[1]).sum().backward()
    assert shared.max.grad is not None


@pytest.mark.parametrize("parametrization", ["min_max", "scale_offset"])
def test_the_range_learns_to_cover_what_it_sees(parametrization: str) -> None:
    quantizer, x = made(QuantizeDequantize, (-0.5, 0.5)), torch.linspace(-2.0, 2.0, 101)
    getattr(quantizer, f"_reparametrize_to_{parametrization}")()
    before = (quantizer(x) - x).square().mean().item()
    optimizer = torch.optim.SGD(
        quantizer.parameters(), lr={"min_max": 0.1, "scale_offset": 1e-5}[parametrization]
    )
    for _ in range(50):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    assert (quantizer(x) - x).square().mean().item() < before / 2


def test_the_golden_gradients_of_the_range() -> None:
    quantizer = made(QuantizeDequantize)
    x = torch.tensor([-3.0, -0.3, 0.2, 0.71, 4.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert quantizer.min.grad.item() == pytest.approx(0.9952, abs=5e-5)  # the golden values have four digits
    assert quantizer.max.grad.item() == pytest.approx(1.0048, abs=5e-5)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Quantize, "Quantize(shape=(), qmin=0, qmax=255, symmetric=False)"),
        (QuantizeDequantize, "QuantizeDequantize(shape=(), qmin=0, qmax=255, symmetric=False)"),
        (Dequantize, "Dequantize(shape=(), qmin=0, qmax=255, symmetric=False)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_quantizer_prints_its_grid(kind: type[AffineQuantizerBase], text: str) -> None:
    assert repr(made(kind)) == text


def test_a_shift_is_printed_where_there_is_one() -> None:
    text = "QuantizeDequantize(shape=(), qmin=-2, qmax=1, symmetric=True, zero_point_shift=0.5)"
    assert repr(QuantizeDequantize((), 2, True, zero_point_shift=0.5)) == text


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("needs_grad", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("kind", [Quantize, QuantizeDequantize, Dequantize], ids=lambda kind: kind.__name__)
def test_it_compiles_without_a_graph_break(kind: type[AffineQuantizerBase], needs_grad: bool) -> None:
    quantizer = made(kind).requires_grad_(needs_grad)
    x = torch.randn(20, requires_grad=needs_grad)
    found = torch.compile(quantizer, fullgraph=True, backend="eager")(x)
    assert type(found) is torch.Tensor
    assert torch.equal(found, quantizer(x))
