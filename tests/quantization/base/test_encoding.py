"""EncodingBase: what encodings of every kind can do."""

import copy

import pytest
import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.base import EncodingBase


class Doubling(EncodingBase):
    """A grid of twos, with a second tensor beside the scale."""

    mapping = "double"
    bitwidth = 1
    dtype = torch.float32

    def __init__(self, scale: torch.Tensor, block_size: tuple[int, ...] | None = None) -> None:
        self.scale, self.block_size, self.second = scale, block_size, scale + 1
        self.name = "doubling"

    def quantize(self, input: torch.Tensor) -> torch.Tensor:
        return input / 2

    def dequantize(self, input: torch.Tensor) -> torch.Tensor:
        return input * 2

    def quantize_dequantize(self, input: torch.Tensor) -> torch.Tensor:
        return input

    def to_qnn_encoding_dict(self, encoding_version=None, shape=None):
        return {}


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        EncodingBase()


@pytest.mark.parametrize(
    ("shape", "block_size", "granularity"),
    [
        ((), None, "pertensor"),
        ((3,), None, "perchannel"),
        ((1, 3, 1), None, "perchannel"),
        ((1, 1), None, "perchannel"),
        ((3, 2), (1, 4), "blockwise"),
        ((3, 2), None, "unknown"),
    ],
    ids=str,
)
def test_the_granularity_follows_from_shape_and_blocks(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None, granularity: str
) -> None:
    assert Doubling(torch.ones(shape), block_size).granularity == granularity


def test_mapping_touches_every_tensor_and_nothing_else() -> None:
    encoding = Doubling(torch.ones(3), (1,))
    mapped = encoding.map_tensors(lambda tensor: tensor * 10)
    assert (mapped.scale.tolist(), mapped.second.tolist()) == ([10.0] * 3, [20.0] * 3)
    assert (mapped.name, mapped.block_size, encoding.scale.tolist()) == ("doubling", (1,), [1.0] * 3)


def test_moving_to_where_it_is_gives_the_encoding_itself() -> None:
    encoding = Doubling(torch.ones(3))
    assert encoding.to(torch.float32) is encoding
    assert encoding.to(device="cpu") is encoding


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((torch.float64,), {}, ("cpu", torch.float64)),
        (("meta",), {}, ("meta", torch.float32)),
        (("meta", torch.float16), {}, ("meta", torch.float16)),
        ((torch.zeros(1, dtype=torch.float64),), {}, ("cpu", torch.float64)),
        ((), {"dtype": torch.bfloat16}, ("cpu", torch.bfloat16)),
    ],
    ids=["dtype", "device", "both", "like", "keyword"],
)
def test_moving_takes_what_a_tensor_takes(
    args: tuple[object, ...], kwargs: dict[str, object], expected: tuple[str, torch.dtype]
) -> None:
    moved = Doubling(torch.ones(3)).to(*args, **kwargs)
    assert (moved.scale.device.type, moved.scale.dtype) == expected
    assert (moved.second.device.type, moved.second.dtype) == expected


def test_an_encoding_is_not_cast_to_integers() -> None:
    with pytest.raises(QuantizerError, match=r"Cannot change encoding data dtype to torch\.int8"):
        Doubling(torch.ones(3)).to(torch.int8)


@pytest.mark.parametrize("factor", [3.0, -3.0], ids=str)
def test_a_kind_that_does_not_say_how_it_scales_has_no_scaled_encoding(factor: float) -> None:
    assert Doubling(torch.ones(3)).scaled(factor) is None


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_leave_the_producer_behind(duplicate: object) -> None:
    encoding = Doubling(torch.ones(3))
    encoding.producer = "a quantizer"
    assert duplicate(encoding).producer is None  # type: ignore[operator]
    assert encoding.producer == "a quantizer"


@pytest.mark.parametrize(
    ("shape", "scale", "block_size", "axes"),
    [
        ((4, 6), (), None, (None, None)),
        ((4, 6), (4, 1), None, (-2, None)),
        ((4, 6), (6,), None, (-1, None)),
        ((4, 6, 1, 1), (4, 1, 1, 1), None, (-4, None)),
        ((4, 6), (4, 3), (1, 2), (-2, -1)),
        ((4, 6), (2, 6), (2, 1), (-1, -2)),
        ((4, 6), (4, 3), (1, -1), (-2, -1)),
        ((4, 6, 1, 1), (4, 3, 1, 1), (1, 2, -1, -1), (-4, -3)),
        ((4, 6), (1, 1), (-1, -1), (None, None)),
    ],
    ids=str,
)
def test_the_axes_that_the_scale_varies_along_are_found(
    shape: tuple[int, ...],
    scale: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    axes: tuple[int | None, int | None],
) -> None:
    assert Doubling(torch.ones(scale), block_size).axes(shape) == axes


@pytest.mark.parametrize(
    ("shape", "scale", "block_size"),
    [((4, 6), (4, 6), None), ((4, 6), (2, 3), (2, 2)), ((4, 6), (1, 3), (4, 2))],
    ids=["two-channels", "two-blocks", "blocks-only"],
)
def test_a_scale_that_varies_otherwise_has_no_axes(
    shape: tuple[int, ...], scale: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    with pytest.raises(QuantizerError, match="no unique channel and block axis"):
        Doubling(torch.ones(scale), block_size).axes(shape)
