"""Pieces: large tensors are worked on part by part, and nothing but the speed shows it."""

import pytest
import torch

from fxquant.quantization.pieces import joined, pieces, summed

LARGE = 2 * 65536  # elements from which on tensors are cut, with one thread
COLUMNS = LARGE // 8 + 16


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors alike on every machine: the size of a piece goes by the number of threads."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def parts_of(tensor: torch.Tensor, scale: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    return list(pieces(tensor, torch.empty_like(tensor), scale, torch.zeros_like(scale)))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(()), torch.zeros(0), torch.zeros(LARGE - 1), torch.zeros(LARGE, device="meta")],
    ids=["scalar", "empty", "just-below", "not-on-a-cpu"],
)
def test_a_small_tensor_or_one_elsewhere_stays_whole(tensor: torch.Tensor) -> None:
    ((part, *_),) = parts_of(tensor, torch.ones(()))
    assert part is tensor


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(LARGE),
        torch.zeros(8, COLUMNS),
        torch.zeros(1, 8, COLUMNS),
        torch.zeros(COLUMNS, 8).T,
        torch.zeros(8, 1).expand(8, COLUMNS),
        torch.zeros(2, 8, COLUMNS // 4, 2).to(memory_format=torch.channels_last),
    ],
    ids=["vector", "matrix", "leading-one", "transposed", "expanded", "channels-last"],
)
def test_parts_cover_a_large_tensor_once(tensor: torch.Tensor) -> None:
    counts = tensor.contiguous() if tensor.stride(-1) == 0 else tensor
    for part, *_ in list(pieces(counts, torch.empty_like(counts), torch.ones(()), torch.zeros(()))):
        part.add_(1)
    assert len(parts_of(tensor, torch.ones(()))) > 1
    assert bool((counts == 1).all())


@pytest.mark.parametrize(
    ("tensor", "scale"),
    [
        ((8, COLUMNS), (8, 1)),
        ((8, COLUMNS), (1, COLUMNS)),
        ((8, COLUMNS), (COLUMNS,)),
        ((8, COLUMNS), (1, 1)),
        ((1, 8, COLUMNS), (8, 1)),
        ((1, 8, COLUMNS), (1, 8, 1)),
        ((COLUMNS, 8), (8,)),
        ((COLUMNS, 8), (COLUMNS, 1)),
    ],
    ids=str,
)
def test_each_part_comes_with_the_entries_of_the_scale_that_serve_it(
    tensor: tuple[int, ...], scale: tuple[int, ...]
) -> None:
    scales = torch.arange(1.0, torch.Size(scale).numel() + 1).view(scale)
    whole, product = torch.ones(tensor), torch.zeros(tensor)
    for x, y, s, _ in pieces(whole, product, scales, torch.zeros_like(scales)):
        torch.mul(x, s, out=y)
    assert torch.equal(product, whole * scales)


@pytest.mark.parametrize(
    "scale",
    [(8, 1), (1, COLUMNS), (COLUMNS,), (1, 1), ()],
    ids=["rows", "columns", "vector", "one", "scalar"],
)
def test_sums_of_the_parts_join_to_the_sum_of_the_whole(scale: tuple[int, ...]) -> None:
    x = torch.randint(-3, 3, (8, COLUMNS)).float()  # whole numbers: sums are exact in any order
    scales = torch.ones(scale)
    parts = [summed(part, s) for part, _, s, _ in parts_of(x, scales)]
    assert torch.equal(joined(parts, scales.shape), x.sum_to_size(scale))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_sums_join_in_the_order_of_the_scale_whatever_axis_lies_outermost_in_memory(axis: int) -> None:
    numbers = torch.randint(-3, 3, (4, 8, 64, 80)).float()
    x = numbers.movedim(axis, 0).contiguous().movedim(0, axis)
    scales = torch.ones(4, 1, 64, 1)
    parts = [summed(part, s) for part, _, s, _ in parts_of(x, scales)]
    assert torch.equal(joined(parts, scales.shape), numbers.sum((1, 3), keepdim=True))


def test_the_scale_is_cut_where_the_offset_is_not() -> None:
    parts = list(pieces(torch.zeros(8, COLUMNS), torch.ones(8, 1), torch.zeros(())))
    assert [(len(x), len(s), o.shape) for x, s, o in parts] == [(3, 3, ()), (3, 3, ()), (2, 2, ())]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_sums_are_taken_in_float32_at_least(dtype: torch.dtype) -> None:
    total = summed(torch.ones(70_000, dtype=dtype), torch.ones((), dtype=dtype))
    assert (total.item(), total.dtype) == (70_000.0, torch.float32)


def test_sums_of_doubles_stay_doubles() -> None:
    assert summed(torch.ones(3, dtype=torch.float64), torch.ones(())).dtype == torch.float64
