"""The examples of AIMET's documentation of its quantizers, with the text they print."""

# ruff: noqa: T201  # what the examples print is what is tested

from collections.abc import Iterator

import pytest
import torch

import fxquant.quantization as Q


@pytest.fixture(autouse=True)
def default_print_options() -> Iterator[None]:
    """Print tensors as torch does by default, lines of 80 characters."""
    torch.set_printoptions(profile="default", linewidth=80)
    yield
    torch.set_printoptions(profile="default")


@pytest.fixture
def qtzr() -> Q.affine.QuantizeDequantize:
    """Return the calibrated quantizer of the first example."""
    quantizer = Q.affine.QuantizeDequantize(shape=(), bitwidth=8, symmetric=False)
    with quantizer.compute_encodings():
        _ = quantizer(torch.arange(256) / 256)
    return quantizer


def elided(tensor: torch.Tensor, last: int) -> str:
    """Return the text of a tensor as the documentation abbreviates it: its first two lines and its last."""
    lines = repr(tensor).splitlines()
    return "\n".join([*lines[:2], "...,", *lines[-last:]])


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# The documentation writes f"{scale}"; for a tensor without dimensions torch prints a bare number there, and
# what the documentation shows with !r.
def test_a_quantizer_prints_its_grid_and_gets_a_range(capsys: pytest.CaptureFixture[str]) -> None:
    qtzr = Q.affine.QuantizeDequantize(shape=(), bitwidth=8, symmetric=False)
    print(qtzr)
    print("Before compute_encodings:")
    print(f" * is_initialized: {qtzr.is_initialized()}")
    print(f" * scale: {qtzr.get_scale()}")
    print(f" * offset: {qtzr.get_offset()}")
    print()
    input = torch.arange(256) / 256  # [0, 1/256, 2/256, ..., 255/256]
    with qtzr.compute_encodings():
        _ = qtzr(input)
    print("After compute_encodings:")
    print(f" * is_initialized: {qtzr.is_initialized()}")
    print(f" * scale: {qtzr.get_scale()!r}")
    print(f" * offset: {qtzr.get_offset()!r}")
    assert (
        printed(capsys)
        == """\
QuantizeDequantize(shape=(), qmin=0, qmax=255, symmetric=False)
Before compute_encodings:
 * is_initialized: False
 * scale: None
 * offset: None

After compute_encodings:
 * is_initialized: True
 * scale: tensor(0.0039, grad_fn=<DivBackward0>)
 * offset: tensor(0., grad_fn=<SubBackward0>)
"""
    )


def test_the_output_carries_its_encoding_in_both_forms(
    qtzr: Q.affine.QuantizeDequantize, capsys: pytest.CaptureFixture[str]
) -> None:
    input_qdq = qtzr(torch.arange(256) / 256)
    print("Output (dequantized representation):")
    print(elided(input_qdq, last=2))
    print(f" * scale: {input_qdq.encoding.scale!r}")
    print(f" * offset: {input_qdq.encoding.offset!r}")
    print(f" * bitwidth: {input_qdq.encoding.bitwidth}")
    print(f" * signed: {input_qdq.encoding.signed}")
    print()
    input_q = input_qdq.quantize()  # Integer representation of input_qdq
    print("Output (quantized representation):")
    print(elided(input_q, last=2))
    print(f" * scale: {input_q.encoding.scale!r}")
    print(f" * offset: {input_q.encoding.offset!r}")
    print(f" * bitwidth: {input_q.encoding.bitwidth}")
    print(f" * signed: {input_q.encoding.signed}")
    assert (
        printed(capsys)
        == """\
Output (dequantized representation):
DequantizedTensor([0.0000, 0.0039, 0.0078, 0.0117, 0.0156, 0.0195, 0.0234,
                   0.0273, 0.0312, 0.0352, 0.0391, 0.0430, 0.0469, 0.0508,
...,
                   0.9570, 0.9609, 0.9648, 0.9688, 0.9727, 0.9766, 0.9805,
                   0.9844, 0.9883, 0.9922, 0.9961], grad_fn=<AliasBackward0>)
 * scale: tensor(0.0039, grad_fn=<DivBackward0>)
 * offset: tensor(0., grad_fn=<SubBackward0>)
 * bitwidth: 8
 * signed: False

Output (quantized representation):
QuantizedTensor([  0.,   1.,   2.,   3.,   4.,   5.,   6.,   7.,   8.,   9.,
                  10.,  11.,  12.,  13.,  14.,  15.,  16.,  17.,  18.,  19.,
...,
                 240., 241., 242., 243., 244., 245., 246., 247., 248., 249.,
                 250., 251., 252., 253., 254., 255.], grad_fn=<AliasBackward0>)
 * scale: tensor(0.0039, grad_fn=<DivBackward0>)
 * offset: tensor(0., grad_fn=<SubBackward0>)
 * bitwidth: 8
 * signed: False
"""
    )


def test_going_from_one_form_to_the_other_and_back_changes_nothing(
    qtzr: Q.affine.QuantizeDequantize,
) -> None:
    input_qdq = qtzr(torch.arange(256) / 256)
    input_q = input_qdq.quantize()
    # 1. Quantizing and dequantizing input_qdq shouldn't change the result
    assert torch.equal(input_qdq, input_q.dequantize())
    # 2. (De-)Quantizing an already (de-)quantized tensor shouldn't change the result
    assert torch.equal(input_qdq, input_qdq.dequantize())
    assert torch.equal(input_q, input_q.quantize())


def test_per_channel_quantization_has_a_scale_per_channel(capsys: pytest.CaptureFixture[str]) -> None:
    Cout, Cin = 8, 8
    weight = (torch.arange(-32, 32) / 64).view(Cin, Cout).transpose(0, 1)
    # Per-channel quantization along the output channel axis (Cout) of the weight
    qtzr = Q.affine.QuantizeDequantize(shape=(Cout, 1), bitwidth=8, symmetric=True)
    print(f"Quantizer:\n{qtzr}")
    with qtzr.compute_encodings():
        _ = qtzr(weight)
    scale = qtzr.get_scale()
    offset = qtzr.get_offset()
    print(f"\nScale:\n{scale} (shape: {tuple(scale.shape)})")
    print(f"\nOffset:\n{offset} (shape: {tuple(offset.shape)})")
    weight_qdq = qtzr(weight)
    weight_q = weight_qdq.quantize()  # Integer representation of weight_qdq
    print(f"Output (quantized representation):\n{weight_q}")
    print(f"\nScale:\n{weight_q.encoding.scale}")
    print(f"\nOffset:\n{weight_q.encoding.offset}")
    assert (
        printed(capsys)
        == """\
Quantizer:
QuantizeDequantize(shape=(8, 1), qmin=-128, qmax=127, symmetric=True)

Scale:
tensor([[0.0039],
        [0.0038],
        [0.0037],
        [0.0035],
        [0.0034],
        [0.0036],
        [0.0037],
        [0.0038]], grad_fn=<DivBackward0>) (shape: (8, 1))

Offset:
tensor([[0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.]]) (shape: (8, 1))
Output (quantized representation):
QuantizedTensor([[-128.,  -96.,  -64.,  -32.,    0.,   32.,   64.,   96.],
                 [-128.,  -95.,  -62.,  -29.,    4.,   37.,   70.,  103.],
                 [-128.,  -94.,  -60.,  -26.,    9.,   43.,   77.,  111.],
                 [-128.,  -93.,  -57.,  -22.,   13.,   49.,   84.,  119.],
                 [-127.,  -91.,  -54.,  -18.,   18.,   54.,   91.,  127.],
                 [-118.,  -83.,  -48.,  -13.,   22.,   57.,   92.,  127.],
                 [-110.,  -76.,  -42.,   -8.,   25.,   59.,   93.,  127.],
                 [-102.,  -70.,  -37.,   -4.,   29.,   61.,   94.,  127.]],
                grad_fn=<AliasBackward0>)

Scale:
tensor([[0.0039],
        [0.0038],
        [0.0037],
        [0.0035],
        [0.0034],
        [0.0036],
        [0.0037],
        [0.0038]], grad_fn=<DivBackward0>)

Offset:
tensor([[0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.],
        [0.]])
"""
    )


def test_per_block_quantization_has_a_scale_per_block(capsys: pytest.CaptureFixture[str]) -> None:
    Cout, Cin = 8, 8
    B = 4  # block size
    weight = torch.cat(
        [
            (torch.arange(-16, 16) / 32).view(B, Cout).transpose(0, 1),
            (torch.arange(-16, 16) / 16).view(B, Cout).transpose(0, 1),
        ],
        dim=1,
    )
    # Blockwise quantization with block size B
    qtzr = Q.affine.QuantizeDequantize(
        shape=(Cout, Cin // B),
        block_size=(-1, B),  # NOTE: -1 indicates wildcard block size
        bitwidth=8,
        symmetric=True,
    )
    print(f"Quantizer:\n{qtzr}")
    with qtzr.compute_encodings():
        _ = qtzr(weight)
    scale = qtzr.get_scale()
    offset = qtzr.get_offset()
    print(f"\nScale:\n{scale} (shape: {tuple(scale.shape)})")
    print(f"\nOffset:\n{offset} (shape: {tuple(offset.shape)})")
    weight_qdq = qtzr(weight)
    weight_q = weight_qdq.quantize()  # Integer representation of weight_qdq
    print(f"Output (quantized representation):\n{weight_q}")
    print(f"\nScale:\n{weight_q.encoding.scale}")
    print(f"\nOffset:\n{weight_q.encoding.offset}")
    assert (
        printed(capsys)
        == """\
Quantizer:
QuantizeDequantize(shape=(8, 2), block_size=(-1, 4), qmin=-128, qmax=127, symmetric=True)

Scale:
tensor([[0.0039, 0.0078],
        [0.0037, 0.0073],
        [0.0034, 0.0068],
        [0.0032, 0.0063],
        [0.0030, 0.0059],
        [0.0032, 0.0064],
        [0.0034, 0.0069],
        [0.0037, 0.0074]], grad_fn=<DivBackward0>) (shape: (8, 2))

Offset:
tensor([[0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.]]) (shape: (8, 2))
Output (quantized representation):
QuantizedTensor([[-128.,  -64.,    0.,   64., -128.,  -64.,    0.,   64.],
                 [-128.,  -60.,    9.,   77., -128.,  -60.,    9.,   77.],
                 [-128.,  -55.,   18.,   91., -128.,  -55.,   18.,   91.],
                 [-128.,  -49.,   30.,  108., -128.,  -49.,   30.,  108.],
                 [-127.,  -42.,   42.,  127., -127.,  -42.,   42.,  127.],
                 [-107.,  -29.,   49.,  127., -107.,  -29.,   49.,  127.],
                 [ -91.,  -18.,   54.,  127.,  -91.,  -18.,   54.,  127.],
                 [ -76.,   -8.,   59.,  127.,  -76.,   -8.,   59.,  127.]],
                grad_fn=<AliasBackward0>)

Scale:
tensor([[0.0039, 0.0078],
        [0.0037, 0.0073],
        [0.0034, 0.0068],
        [0.0032, 0.0063],
        [0.0030, 0.0059],
        [0.0032, 0.0064],
        [0.0034, 0.0069],
        [0.0037, 0.0074]], grad_fn=<DivBackward0>)

Offset:
tensor([[0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.],
        [0., 0.]])
"""
    )


def test_a_width_that_blocks_do_not_divide_is_refused(qtzr: Q.affine.QuantizeDequantize) -> None:
    blockwise = Q.affine.QuantizeDequantize(shape=(8, 2), block_size=(-1, 4), bitwidth=8, symmetric=True)
    blockwise.set_range(-1.0, 1.0)
    with pytest.raises(RuntimeError, match="must equal the corresponding scale dimension size"):
        blockwise(torch.randn(8, 9))


def test_a_quantizer_of_blocks_in_every_dimension_takes_a_tensor_that_fits() -> None:
    # The rules of the page on blockwise quantization: shape * block_size is the shape of the tensor.
    qtzr = Q.affine.QuantizeDequantize((1, 2, 2, 2), 8, True, block_size=(2, 1, 3, 5))
    wildcard = Q.affine.QuantizeDequantize((1, 2, 2, 2), 8, True, block_size=(-1, 1, -1, 5))
    x = torch.randn(2, 2, 6, 10)
    with qtzr.compute_encodings(), wildcard.compute_encodings():
        qtzr(x), wildcard(x)
    assert torch.equal(qtzr(x), wildcard(x))
    assert qtzr(x).encoding.granularity == "blockwise"
