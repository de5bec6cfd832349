"""Custom modules that are more than one function, against plain formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.errors import QuantizerError
from fxquant.nn import custom
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn import custom_cases
from tests.nn.cases import normal, positive


def test_channels_are_dealt_out_as_torch_does_it() -> None:
    x = normal(2, 6, 2, 2)
    assert torch.equal(custom.ChannelShuffle(3)(x), nn.ChannelShuffle(3)(x))


def test_depth_to_space_crd_is_pixel_shuffle() -> None:
    x = normal(1, 8, 2, 3)
    assert torch.equal(custom.DepthToSpaceCRDMode([2, 2])(x), F.pixel_shuffle(x, 2))


def test_depth_to_space_dcr_takes_the_block_from_the_slow_channels() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    expected = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]], [[1.0, 3.0], [5.0, 7.0]]]])
    assert torch.equal(custom.DepthToSpaceDCRMode(2)(x), expected)


def test_a_slice_takes_ranges() -> None:
    x = normal(3, 5)
    assert torch.equal(custom.StridedSlice()(x, ((0, 3, 2), (None, None, None))), x[0:3:2])


def test_gather_counts_negative_indices_from_the_end() -> None:
    x = normal(3, 5)
    indices = torch.tensor([[0, -1], [1, -5]])
    assert torch.equal(custom.CustomGather()(x, indices, 1), x[:, indices])
    assert torch.equal(custom.CustomGather()(x, indices, -1), x[:, indices])
    assert torch.equal(custom.CustomGather()(x, torch.tensor(2)), x[2])


@pytest.mark.parametrize(
    ("batch", "indices", "expected"),
    [
        (0, [[0, 1], [1, 2]], lambda x: torch.stack([x[0, 1], x[1, 2]])),
        (0, [[1]], lambda x: x[1:2]),
        (1, [[2], [0]], lambda x: torch.stack([x[0, 2], x[1, 0]])),
        (1, [[2, 3], [0, 1]], lambda x: torch.stack([x[0, 2, 3], x[1, 0, 1]])),
        (
            2,
            [[[3], [2], [1]], [[0], [0], [0]]],
            lambda x: torch.stack([x[0, [0, 1, 2], [3, 2, 1]], x[1, :, 0]]),
        ),
    ],
    ids=["elements", "slices", "batch", "batch-elements", "two-batches"],
)
def test_gather_nd_takes_tuples_of_indices(batch: int, indices: list, expected: object) -> None:
    x = normal(2, 3, 4)
    given = custom.GatherNd(batch)(x, torch.tensor(indices))
    assert torch.equal(given, expected(x))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("reduction", "expected"), [(0, [9.0, 2.0, 8.0]), (1, [10.0, 2.0, 11.0]), (2, [9.0, 2.0, 24.0])]
)
def test_scatter_nd_overwrites_adds_or_multiplies(reduction: int, expected: list[float]) -> None:
    data = torch.tensor([1.0, 2.0, 3.0])
    output = custom.ScatterND(reduction)(data, torch.tensor([[0], [2]]), torch.tensor([9.0, 8.0]))
    assert output.tolist() == expected
    assert data.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("reduce", [None, "sum", "amax"])
def test_scatter_elements_takes_lists(reduce: str | None) -> None:
    scatter = custom.ScatterElements(0, reduce)
    expected = scatter(torch.zeros(3), torch.tensor([0, 2]), torch.tensor([1.0, 2.0]))
    assert torch.equal(scatter([0.0, 0.0, 0.0], [0, 2], [1.0, 2.0]), expected)
    assert torch.equal(
        custom.QuantizedScatterElements(0, reduce)([0.0, 0.0, 0.0], [0, 2], [1.0, 2.0]), expected
    )


@pytest.mark.parametrize(("off", "on"), [(0, 1), (-1.0, 2.0)])
def test_one_hot_is_on_at_the_index(off: float, on: float) -> None:
    output = custom.OneHot(3, off, on)(torch.tensor([0, 2]))
    assert output.tolist() == [[on, off, off], [off, off, on]]


def test_rms_norm_is_that_of_torch() -> None:
    x = normal(3, 5)
    torch.testing.assert_close(custom.RmsNorm([3, 5], [1], 1e-5)(x), F.rms_norm(x, (5,), eps=1e-5))
    assert custom.RmsNorm([3, 5], [1], 1e-5)(x.half()).dtype == torch.float16


@pytest.mark.parametrize("size", [8, 12, 5])
def test_a_hadamard_rotation_keeps_lengths_and_undoes_itself(size: int) -> None:
    rotation, x = custom.HadamardRotation(size), normal(2, size)
    torch.testing.assert_close(rotation(x).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotation(rotation(x)), x)


def test_rotary_embedding_turns_pairs_by_an_angle() -> None:
    angles = positive(1, 3, 2)
    x = normal(1, 2, 3, 6)
    output = custom.RotaryEmbedding(False, 4, 6)(x, angles.cos(), angles.sin())
    pairs = torch.complex(x[..., :2], x[..., 2:4]) * torch.polar(torch.ones(1), angles).unsqueeze(1)
    torch.testing.assert_close(output, torch.cat([pairs.real, pairs.imag, x[..., 4:]], dim=-1))


def test_interleaved_rotary_embedding_turns_neighbours() -> None:
    angles, x = positive(1, 3, 2), normal(1, 2, 3, 4)
    by_halves = custom.RotaryEmbedding(False, 4, 4)(x[..., [0, 2, 1, 3]], angles.cos(), angles.sin())
    interleaved = custom.RotaryEmbedding(True, 4, 4)(x, angles.cos(), angles.sin())
    torch.testing.assert_close(interleaved, by_halves[..., [0, 2, 1, 3]])


def test_rotary_embedding_finds_its_angles_by_position() -> None:
    angles, x, positions = positive(7, 2), normal(1, 2, 3, 4), torch.tensor([[4, 0, 6]])
    module = custom.RotaryEmbedding(False, 4, 4)
    expected = module(x, angles[positions].cos(), angles[positions].sin())
    assert torch.equal(module(x, angles.cos(), angles.sin(), positions), expected)


def test_silu_is_x_times_its_sigmoid() -> None:
    x = normal(3)
    torch.testing.assert_close(custom.CustomSiLU()(x), F.silu(x))


def test_casts_and_null_requants() -> None:
    x = normal(2, 3)
    assert custom.Cast(torch.float16)(x).dtype == torch.float16
    assert torch.equal(custom.NullRequant()(x, [6]), x)


def test_quantized_statistics_cannot_be_trained() -> None:
    module = custom.QuantizedBatchNorm()
    module.input_quantizers[1] = QuantizeDequantize((), 8, True)
    module.input_quantizers[1].set_range(-1.0, 1.0)
    with pytest.raises(QuantizerError, match="Running statistics that are quantized cannot be updated"):
        module(normal(3, 5), torch.zeros(5), torch.ones(5), training=True)


def test_statistics_take_no_gradient() -> None:
    module, mean, variance = custom.QuantizedBatchNorm(), torch.zeros(5), torch.ones(5)
    output = module(normal(3, 5), mean.requires_grad_(), variance.requires_grad_())
    assert not output.requires_grad
    torch.testing.assert_close(output, normal(3, 5) / math.sqrt(1 + 1e-5))


def test_every_module_with_a_forward_of_its_own_has_a_case() -> None:
    assert not set(custom_cases.OWN_FORWARD) & set(custom.forms.__all__)
