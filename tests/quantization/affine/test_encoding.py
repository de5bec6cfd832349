"""AffineEncoding: what it says about its grid, and its codes against ONNX QuantizeLinear."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from fxquant.errors import QuantizerError
from fxquant.quantization import AffineEncoding
from tests.quantization.strategies import encodings, tensors

INT8, UINT8 = (-128, 127), (0, 255)
INT32 = -(2**31), 2**31 - 1


def encoding(
    scale: float | list[float] = 0.1, offset: float = 0.0, grid: tuple[int, int] = INT8
) -> AffineEncoding:
    scales = torch.tensor(scale)
    return AffineEncoding(scales, torch.full_like(scales, offset), *grid)


@pytest.mark.parametrize(
    ("grid", "bitwidth", "signed", "dtype"),
    [
        (INT8, 8, True, torch.int8),
        (UINT8, 8, False, torch.uint8),
        ((-8, 7), 4, True, torch.int8),
        ((0, 15), 4, False, torch.uint8),
        ((-2, 1), 2, True, torch.int8),
        ((-32768, 32767), 16, True, torch.int16),
        ((0, 65535), 16, False, torch.int32),
        (INT32, 32, True, torch.int32),
    ],
    ids=["int8", "uint8", "int4", "uint4", "int2", "int16", "uint16", "int32"],
)
def test_the_grid_gives_bitwidth_sign_and_storage_type(
    grid: tuple[int, int], bitwidth: int, signed: bool, dtype: torch.dtype
) -> None:
    found = encoding(grid=grid)
    assert (found.mapping, found.num_steps) == ("affine", grid[1] - grid[0])
    assert (found.bitwidth, found.signed, found.dtype) == (bitwidth, signed, dtype)
    assert found.storage_bits == bitwidth


@pytest.mark.parametrize(
    ("grid", "storage_bits"),
    [((-127, 127), 8), ((-7, 7), 4), ((-32767, 32767), 16), ((1, 16), 4), ((-2, 2), 3)],
    ids=str,
)
def test_a_grid_of_no_integer_type_has_storage_bits_but_no_bitwidth(
    grid: tuple[int, int], storage_bits: int
) -> None:
    found = encoding(grid=grid)
    assert found.storage_bits == storage_bits
    with pytest.raises(RuntimeError, match=r"AffineEncoding\.bitwidth is undefined in the quantization grid"):
        _ = found.bitwidth
    with pytest.raises(RuntimeError, match=r"AffineEncoding\.signed is undefined in the quantization grid"):
        _ = found.signed


@pytest.mark.parametrize(
    ("args", "kwargs", "grid"),
    [
        ((-128, 127), {}, INT8),
        ((0, 9), {}, (0, 9)),
        ((8,), {}, UINT8),
        ((8, True), {}, INT8),
        ((8, False), {}, UINT8),
        ((), {"bitwidth": 4, "signed": True}, (-8, 7)),
        ((), {"bitwidth": 4}, (0, 15)),
        ((4,), {"signed": True}, (-8, 7)),
        ((), {"qmin": -3, "qmax": 4}, (-3, 4)),
        ((-3,), {"qmax": 4}, (-3, 4)),
        ((8, None), {}, UINT8),
    ],
    ids=str,
)
def test_the_grid_is_written_either_way(
    args: tuple[int, ...], kwargs: dict[str, int], grid: tuple[int, int]
) -> None:
    found = AffineEncoding(torch.tensor(0.1), torch.tensor(0.0), *args, **kwargs)
    assert (found.qmin, found.qmax) == grid


def test_what_follows_the_grid_is_the_same_in_both_forms() -> None:
    scale = torch.ones(2, 2)
    first = AffineEncoding(scale, scale, -8, 7, True, (1, 4), 0.5)
    second = AffineEncoding(scale, scale, 4, True, True, (1, 4), 0.5)
    by_name = AffineEncoding(
        scale, scale, bitwidth=4, signed=True, symmetry=True, block_size=(1, 4), zero_point_shift=0.5
    )
    expected = (-8, 7, True, (1, 4), 0.5)
    for found in (first, second, by_name):
        values = found.qmin, found.qmax, found.symmetry, found.block_size, found.zero_point_shift
        assert values == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((), {}, TypeError, "Unexpected arguments"),
        ((), {"qmax": 3}, TypeError, "Unexpected arguments"),
        ((), {"signed": True}, TypeError, "Unexpected arguments"),
        ((8,), {"bitwidth": 8}, TypeError, "Unexpected arguments"),
        ((8, True, True, None, 0.0, None), {}, TypeError, "Unexpected arguments"),
        ((8,), {"foo": 1}, TypeError, "got unexpected keyword argument: foo"),
        ((7, -8), {}, ValueError, "qmax should be strictly larger than qmin"),
        ((8,), {"zero_point_shift": 0.25}, ValueError, "zero_point_shift should be 0.0 or 0.5"),
    ],
    ids=str,
)
def test_arguments_that_make_no_grid_are_refused(
    args: tuple[int, ...], kwargs: dict[str, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AffineEncoding(torch.tensor(0.1), torch.tensor(0.0), *args, **kwargs)


@pytest.mark.parametrize(
    ("shape", "block_size", "granularity"),
    [
        ((), None, "pertensor"),
        ((4,), None, "perchannel"),
        ((4, 1, 1), None, "perchannel"),
        ((1,), None, "perchannel"),
        ((1, 1), None, "perchannel"),
        ((4, 2), (1, 4), "blockwise"),
        ((4, 2), None, "unknown"),
    ],
    ids=str,
)
def test_the_granularity_is_what_one_scale_serves(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None, granularity: str
) -> None:
    scale = torch.ones(shape)
    assert AffineEncoding(scale, scale, *INT8, block_size=block_size).granularity == granularity


def test_setting_the_bitwidth_keeps_the_sign() -> None:
    found = encoding(grid=INT8)
    found.bitwidth = 4
    assert (found.qmin, found.qmax) == (-8, 7)


def test_min_and_max_are_the_ends_of_the_grid() -> None:
    # The golden values of a 16-bit range [-1, 3]: snapping the offset moves both ends by 1.5e-5.
    # Tolerance: half an eps of a float32 near 3, and the digits printed.
    snapped = encoding(4 / 65535, -16384.0, (0, 65535))
    assert snapped.min.item() == pytest.approx(-1.0000153, abs=2e-7)
    assert snapped.max.item() == pytest.approx(2.9999847, abs=2e-7)


def test_the_zero_point_is_minus_the_offset_as_an_integer() -> None:
    zero_point = encoding([0.1, 0.2], -94.0, UINT8).zero_point
    assert (zero_point.tolist(), zero_point.dtype) == ([94, 94], torch.int32)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((), None), ((4,), 0), ((4, 1, 1, 1), 0), ((1, 4, 1), 1), ((1, 1), None), ((4, 2), None)],
    ids=str,
)
def test_the_channel_axis_is_the_one_along_which_scale_varies(
    shape: tuple[int, ...], axis: int | None
) -> None:
    assert AffineEncoding(torch.ones(shape), torch.zeros(shape), *INT8).channel_axis == axis


def test_casting_converts_scale_and_offset_only() -> None:
    double = AffineEncoding(torch.tensor(0.1), torch.tensor(-3.0), 0, 255, symmetry=True).to(torch.float64)
    assert (double.scale.dtype, double.offset.dtype) == (torch.float64, torch.float64)
    assert (double.qmin, double.qmax, double.symmetry) == (0, 255, True)


def test_casting_to_what_it_is_changes_nothing() -> None:
    found = encoding()
    assert found.to(torch.float32) is found
    assert found.to("cpu") is found


def test_casting_to_integers_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Cannot change encoding data dtype to torch\.int32"):
        encoding().to(torch.int32)


def test_casting_moves_every_tensor() -> None:
    found = encoding([0.1, 0.2]).to(device="meta", dtype=torch.float64)
    assert {(t.device.type, t.dtype) for t in (found.scale, found.offset)} == {("meta", torch.float64)}


@pytest.mark.parametrize("name", ["quantize", "dequantize", "to_integers"])
def test_a_shifted_grid_has_no_codes(name: str) -> None:
    shifted = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), -2, 1, zero_point_shift=0.5)
    with pytest.raises(RuntimeError, match="A grid with a zero-point shift has no codes"):
        getattr(shifted, name)(torch.ones(1))


def test_a_shifted_grid_has_values() -> None:
    # The golden levels -1, -1/3, 1/3, 1 of two bits; the scale rounds by half an eps.
    shifted = AffineEncoding(torch.tensor(2 / 3), torch.tensor(0.0), -2, 1, zero_point_shift=0.5)
    x = torch.tensor([-9.0, -0.1, 0.1, 9.0])
    assert shifted.quantize_dequantize(x).tolist() == pytest.approx([-1.0, -1 / 3, 1 / 3, 1.0], rel=1e-6)


@given(encoding=encodings(), tensor=tensors())
def test_a_scaled_encoding_is_that_of_scaled_values(encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    found = encoding.scaled(4.0)  # a power of two: no rounding
    assert torch.equal(found.quantize_dequantize(tensor * 4.0), encoding.quantize_dequantize(tensor) * 4.0)


@given(encoding=encodings(), tensor=tensors())
def test_a_mirrored_encoding_is_that_of_mirrored_values(
    encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    encoding.symmetry = False  # a symmetric grid may have no mirror image
    found = encoding.scaled(-4.0).quantize_dequantize(tensor * -4.0)
    assert torch.equal(found, encoding.quantize_dequantize(tensor) * -4.0)


def test_a_mirrored_shifted_encoding_is_that_of_mirrored_values() -> None:
    shifted = AffineEncoding(torch.tensor(1.0), torch.tensor(-1.0), 0, 3, zero_point_shift=0.5)
    x = torch.tensor([-9.0, -0.6, 0.6, 1.4, 9.0])
    assert torch.equal(shifted.scaled(-1.0).quantize_dequantize(-x), -shifted.quantize_dequantize(x))


@given(encoding=encodings(), tensor=tensors())
def test_codes_lie_on_the_grid_and_give_the_simulated_values(
    encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    codes = encoding.to_integers(tensor)
    assert codes.dtype == encoding.dtype
    assert ((codes >= encoding.qmin) & (codes <= encoding.qmax)).all()
    assert torch.equal(encoding.dequantize(codes), encoding.quantize_dequantize(tensor))


@given(tensor=tensors())
def test_codes_of_bfloat16_are_those_of_the_same_float32_values(tensor: torch.Tensor) -> None:
    x = tensor.bfloat16()
    assert torch.equal(encoding().to_integers(x), encoding().to_integers(x.float()))


@pytest.mark.parametrize(
    ("dtype", "grid"),
    [(torch.bfloat16, INT8), (torch.bfloat16, UINT8), (torch.float16, (-2048, 2047))],
    ids=["bfloat16-int8", "bfloat16-uint8", "float16-int12"],
)
def test_float_codes_of_half_types_equal_integer_codes(dtype: torch.dtype, grid: tuple[int, int]) -> None:
    half, found = torch.randn(1000).to(dtype), encoding(6 / (grid[1] - grid[0]), grid=grid)
    assert torch.equal(found.quantize(half).to(torch.int32), found.to_integers(half).to(torch.int32))


@pytest.mark.parametrize(
    ("dtype", "grid"),
    [(torch.bfloat16, (-512, 511)), (torch.float16, (-32768, 32767)), (torch.float32, INT32)],
    ids=["bfloat16-int10", "float16-int16", "float32-int32"],
)
def test_float_codes_are_refused_where_the_type_cannot_hold_them(
    dtype: torch.dtype, grid: tuple[int, int]
) -> None:
    with pytest.raises(QuantizerError, match=f"{dtype} is unable to represent quantized output"):
        encoding(grid=grid).quantize(torch.ones(1, dtype=dtype))


def test_integer_codes_of_float16_do_not_depend_on_the_granularity() -> None:
    x = torch.randn(100_000).half()
    assert torch.equal(encoding(0.0237).to_integers(x), encoding([0.0237]).to_integers(x))


@pytest.mark.parametrize("scale", [1.0, [1.0, 1.0]], ids=["per-tensor", "per-channel"])
def test_int32_codes_saturate(scale: float | list[float]) -> None:
    assert encoding(scale, grid=INT32).to_integers(torch.tensor([3e9, -3e9])).tolist() == [INT32[1], INT32[0]]


@pytest.mark.parametrize("scale", [2.0**-6, 0.0237], ids=["power-of-two", "any-scale"])
@pytest.mark.parametrize(
    ("onnx_type", "zero_point", "grid"),
    [
        (np.int8, 0, INT8),
        (np.int8, -17, INT8),
        (np.uint8, 94, UINT8),
        (np.int16, 0, (-32768, 32767)),
        (np.uint16, 30000, (0, 65535)),
    ],
    ids=["int8", "asymmetric-int8", "uint8", "int16", "uint16"],
)
def test_codes_equal_onnx_quantize_linear(
    scale: float, onnx_type: type, zero_point: int, grid: tuple[int, int]
) -> None:
    steps = grid[1] - grid[0]
    anywhere = (torch.rand(50_000) * 3 - 1.5) * steps * scale  # a third of them outside of the grid
    ties = (torch.randint(-steps, steps, (50_000,)) + 0.5) * torch.tensor(scale)  # exact for 2^-6
    x = torch.cat([anywhere, ties])
    expected = _quantize_linear(x.numpy(), np.float32(scale), np.array(zero_point, onnx_type))
    codes = encoding(scale, -float(zero_point), grid).to_integers(x)
    assert np.count_nonzero(codes.numpy().astype(np.int64) != expected.astype(np.int64)) == 0


def _quantize_linear(x: np.ndarray, scale: np.float32, zero_point: np.ndarray) -> np.ndarray:
    """Run a model of one QuantizeLinear in ONNX Runtime."""
    constants = {"scale": np.array(scale), "zero_point": zero_point}
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", *constants], ["codes"])],
        "quantize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("codes", helper.np_dtype_to_tensor_dtype(zero_point.dtype), x.shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]
