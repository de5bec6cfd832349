"""What each group of torch functions makes of an encoding."""

import operator
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from fxquant.quantization import AffineEncoding, DequantizedTensor, QuantizedTensor, QuantizedTensorBase
from fxquant.quantization.tensor_functions import CASTS, KEEPS, MOVES

Op = Callable[[torch.Tensor], torch.Tensor]

KEPT: dict[str, Op] = {
    "contiguous": lambda x: x.contiguous(),
    "contiguous-copy": lambda x: x.contiguous(memory_format=torch.channels_last),
    "requires_grad_": lambda x: x.requires_grad_(),
    "share_memory_": lambda x: x.share_memory_(),
    "clone": lambda x: x.clone(),
    "torch.clone": torch.clone,
    "detach": lambda x: x.detach(),
    "torch.detach": torch.detach,
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "double": lambda x: x.double(),
    "float": lambda x: x.float(),
    "to-same": lambda x: x.to(torch.float32),
    "to-half": lambda x: x.to(torch.float16),
    "to-like": lambda x: x.to(torch.zeros(1, dtype=torch.float64)),
    "cpu": lambda x: x.cpu(),
    "type": lambda x: x.type(torch.float64),
    "type_as": lambda x: x.type_as(torch.zeros(1, dtype=torch.float64)),
}
MOVED: dict[str, Op] = {
    "as_strided": lambda x: x.as_strided((2, 2), (1, 2)),
    "broadcast_to": lambda x: x.broadcast_to(3, 2, 2, 2, 2),
    "chunk": lambda x: x.chunk(2)[1],
    "dsplit": lambda x: x.dsplit(2)[0],
    "expand": lambda x: x.expand(3, -1, -1, -1, -1),
    "expand_as": lambda x: x.expand_as(torch.zeros(3, 2, 2, 2, 2)),
    "flatten": lambda x: x.flatten(),
    "flip": lambda x: x.flip(0),
    "fliplr": lambda x: x.fliplr(),
    "flipud": lambda x: x.flipud(),
    "gather": lambda x: x.gather(0, torch.zeros(1, 2, 2, 2, dtype=torch.long)),
    "hsplit": lambda x: x.hsplit(2)[1],
    "index": lambda x: x[0],
    "slice": lambda x: x[:, 1:],
    "mask": lambda x: x[torch.ones(2, dtype=torch.bool)],
    "index_select": lambda x: x.index_select(0, torch.tensor([1])),
    "kthvalue": lambda x: x.kthvalue(1).values,
    "masked_select": lambda x: x.masked_select(torch.tensor(True)),
    "movedim": lambda x: x.movedim(0, 1),
    "moveaxis": lambda x: x.moveaxis(0, 1),
    "msort": lambda x: x.msort(),
    "narrow": lambda x: x.narrow(0, 0, 1),
    "permute": lambda x: x.permute(3, 2, 1, 0),
    "repeat": lambda x: x.repeat(2, 1, 1, 1),
    "reshape": lambda x: x.reshape(4, 4),
    "reshape_as": lambda x: x.reshape_as(torch.zeros(4, 4)),
    "resize_": lambda x: x.resize_(2, 2),
    "resize_as_": lambda x: x.resize_as_(torch.zeros(2, 2)),
    "select": lambda x: x.select(0, 1),
    "split": lambda x: x.split(1)[1],
    "squeeze": lambda x: x.squeeze(),
    "squeeze_": lambda x: x.squeeze_(),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "swapdims": lambda x: x.swapdims(0, 1),
    "T": lambda x: x[0, 0].T,
    "mT": lambda x: x.mT,
    "H": lambda x: x[0, 0].H,
    "t": lambda x: x[0, 0].t(),
    "t_": lambda x: x[0, 0].t_(),
    "take": lambda x: x.take(torch.tensor([3])),
    "take_along_dim": lambda x: x.take_along_dim(torch.zeros(1, 2, 2, 2, dtype=torch.long), 0),
    "tensor_split": lambda x: x.tensor_split(2)[0],
    "tile": lambda x: x.tile(2),
    "transpose": lambda x: x.transpose(0, 1),
    "unbind": lambda x: x.unbind()[1],
    "iteration": lambda x: next(iter(x)),
    "unflatten": lambda x: x.unflatten(0, (1, 2)),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "unsqueeze_": lambda x: x.unsqueeze_(0),
    "view": lambda x: x.view(4, 4),
    "view_as": lambda x: x.view_as(torch.zeros(4, 4)),
    "vsplit": lambda x: x.vsplit(2)[0],
    "torch.flatten": torch.flatten,
    "torch.permute": lambda x: torch.permute(x, (3, 2, 1, 0)),
    "torch.reshape": lambda x: torch.reshape(x, (16,)),
    "torch.transpose": lambda x: torch.transpose(x, 0, 1),
    "torch.split": lambda x: torch.split(x, 1)[0],
    "torch.chunk": lambda x: torch.chunk(x, 2)[0],
    "torch.squeeze": torch.squeeze,
    "torch.unsqueeze": lambda x: torch.unsqueeze(x, 0),
    "torch.narrow": lambda x: torch.narrow(x, 0, 0, 1),
    "torch.narrow_copy": lambda x: torch.narrow_copy(x, 0, 0, 1),
    "torch.view_copy": lambda x: torch.view_copy(x, (16,)),
    "nn.Flatten": torch.nn.Flatten(),
}
LOST: dict[str, Op] = {
    "add": lambda x: x + x,
    "add-number": lambda x: x + 1,
    "radd-number": lambda x: 1 + x,
    "subtract": lambda x: x - 1,
    "negative": operator.neg,
    "abs": abs,
    "power": lambda x: x**2,
    "multiply-tensor": lambda x: x * torch.tensor(2.0),
    "multiply-itself": lambda x: x * x,
    "divide-tensor": lambda x: x / torch.tensor(2.0),
    "number-divided": lambda x: 2 / x,
    "floor-divide": lambda x: x // 2,
    "divide-and-floor": lambda x: torch.div(x, 2, rounding_mode="floor"),
    "multiply-zero": lambda x: x * 0,
    "multiply-bool": lambda x: x * True,
    "relu": F.relu,
    "max": lambda x: x.max(),
    "sum": lambda x: x.sum(),
    "sort": lambda x: x.sort().values,
    "topk": lambda x: x.topk(1).values,
    "cat": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, x]),
    "where": lambda x: torch.where(x > 0, x, x),
    "matmul": lambda x: x @ x,
    "linear": lambda x: F.linear(torch.ones(1, 2), x[0, 0]),
    "max-pool": lambda x: F.max_pool2d(x, 2),
    "zeros_like": torch.zeros_like,
    "data": lambda x: x.data,
    "comparison": lambda x: x == 1,
    "plain-first": lambda x: torch.ones(2, 2, 2, 2).add(x),
    "plain-type_as": lambda x: torch.ones(1).type_as(x),
    "int": lambda x: x.int(),
    "bool": lambda x: x.bool(),
    "byte": lambda x: x.byte(),
    "to-int": lambda x: x.to(torch.int64),
    "type-int": lambda x: x.type(torch.int8),
    "view-as-int": lambda x: x.view(torch.int32),
    "argmax": lambda x: x.argmax(),
}
WRITES: dict[str, Op] = {
    "add_": lambda x: x.add_(1),
    "iadd": lambda x: operator.iadd(x, 1),
    "mul_": lambda x: x.mul_(2),
    "imul": lambda x: operator.imul(x, 2),
    "relu_": torch.relu_,
    "F.relu": lambda x: F.relu(x, inplace=True),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(torch.zeros(2, 2, 2, 2)),
    "fill_": lambda x: x.fill_(3),
    "masked_fill_": lambda x: x.masked_fill_(torch.tensor(True), 7.0),
    "clamp_": lambda x: x.clamp_(0, 1),
    "init": torch.nn.init.ones_,
}
UNCHANGED: dict[str, Op] = {
    "positive": operator.pos,
    "real": lambda x: x.real,
    "conj": lambda x: x.conj(),
    "resolve_neg": lambda x: x.resolve_neg(),
    "sum_to_size": lambda x: x.sum_to_size(2, 2, 2, 2),
    "F.dropout": lambda x: F.dropout(x, training=False),
    "nn.Dropout": torch.nn.Dropout().eval(),
}


def values() -> torch.Tensor:
    return torch.arange(16.0).reshape(2, 2, 2, 2)


def per_tensor(tensor: torch.Tensor, kind: type[QuantizedTensorBase] = DequantizedTensor) -> torch.Tensor:
    return kind.carrying(tensor, AffineEncoding(torch.tensor(0.5), torch.tensor(-3.0), 0, 255))


def per_channel(tensor: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor([0.5, 0.25]).reshape(2, 1, 1, 1)
    return DequantizedTensor.carrying(tensor, AffineEncoding(scale, torch.zeros_like(scale), 0, 255))


def named(ops: dict[str, Op]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("op", ops.values(), ids=ops)


KINDS = pytest.mark.parametrize("kind", [QuantizedTensor, DequantizedTensor], ids=["codes", "values"])


@KINDS
@named(KEPT | MOVED)
def test_one_scale_survives_copies_casts_and_moves(op: Op, kind: type[QuantizedTensorBase]) -> None:
    found = op(per_tensor(values(), kind))
    assert type(found) is kind
    assert (found.encoding.scale.item(), found.encoding.offset.item()) == (0.5, -3.0)


@named(KEPT)
def test_scales_of_channels_survive_copies_and_casts(op: Op) -> None:
    found = op(per_channel(values()))
    assert type(found) is DequantizedTensor
    assert found.encoding.scale.flatten().tolist() == [0.5, 0.25]


@named(MOVED)
def test_scales_of_channels_are_lost_on_the_move(op: Op) -> None:
    found = op(per_channel(values()))
    assert type(found) is DequantizedTensor
    assert found.encoding is None


@named(KEPT | MOVED | LOST)
def test_values_are_those_of_a_plain_tensor(op: Op) -> None:
    found = op(per_tensor(values().clone()))
    assert torch.equal(found.as_subclass(torch.Tensor), op(values().clone()))


@KINDS
@named(LOST)
def test_other_functions_give_plain_tensors(op: Op, kind: type[QuantizedTensorBase]) -> None:
    assert type(op(per_tensor(values(), kind))) is torch.Tensor


@named(LOST)
def test_other_functions_leave_their_argument_alone(op: Op) -> None:
    x = per_tensor(values())
    op(x)
    assert x.encoding is not None


@named(WRITES)
def test_what_is_written_to_loses_its_encoding(op: Op) -> None:
    x = per_tensor(values())
    assert op(x) is x
    assert x.encoding is None


@pytest.mark.parametrize(
    "write",
    [lambda x: operator.setitem(x, 0, 99.0), lambda x: torch.add(values(), 1, out=x)],
    ids=["setitem", "out"],
)
def test_a_write_that_does_not_return_the_tensor_takes_its_encoding_too(write: Op) -> None:
    x = per_tensor(values())
    write(x)
    assert x.encoding is None


@named(UNCHANGED)
def test_a_function_that_returns_its_argument_as_it_is_leaves_the_encoding(op: Op) -> None:
    x = per_tensor(values())
    op(x)
    assert x.encoding is not None


def test_integers_beside_the_values_stay_plain() -> None:
    found = per_tensor(values()).kthvalue(1)
    assert (type(found.values), type(found.indices)) == (DequantizedTensor, torch.Tensor)


def test_every_part_of_a_split_carries_the_encoding() -> None:
    assert [part.encoding.offset.item() for part in per_tensor(values()).unbind()] == [-3.0, -3.0]


def test_attributes_are_those_of_a_plain_tensor() -> None:
    x = per_tensor(values())
    assert (x.shape, x.dtype, x.device, x.type()) == (
        (2, 2, 2, 2),
        torch.float32,
        x.device,
        "torch.FloatTensor",
    )
    assert (x.tolist(), x[0, 0, 0, 1].item(), len(x)) == (values().tolist(), 1.0, 2)


def test_a_cast_leaves_the_scale_in_its_type() -> None:
    assert per_tensor(values()).half().encoding.scale.dtype == torch.float32


def test_another_device_takes_the_encoding_along() -> None:
    assert per_tensor(values()).to("meta").encoding.scale.device.type == "meta"


def test_a_moved_tensor_has_an_encoding_object_of_its_own() -> None:
    x = per_tensor(values())
    moved = x.flatten()
    moved.add_(1)
    assert x.encoding is not None
    assert moved.encoding is not x.encoding


@pytest.mark.parametrize(
    ("scaled", "factor"),
    [
        (lambda x: x * 2, 2.0),
        (lambda x: 2 * x, 2.0),
        (lambda x: x * 0.3, 0.3),
        (lambda x: x / 4, 0.25),
        (lambda x: x.mul(3), 3.0),
        (lambda x: x.mul(other=3), 3.0),
        (lambda x: torch.mul(x, 3), 3.0),
        (lambda x: torch.mul(3, x), 3.0),
        (lambda x: x.div(2), 0.5),
        (lambda x: torch.div(x, 2, rounding_mode=None), 0.5),
        (lambda x: x * -2, -2.0),
        (lambda x: x / -2, -0.5),
        (lambda x: -1.0 * x, -1.0),
    ],
    ids=str,
)
def test_values_times_a_number_keep_their_codes_on_a_scaled_grid(scaled: Op, factor: float) -> None:
    x = per_tensor((values() - 3.0) * 0.5)
    found = scaled(x)
    assert type(found) is DequantizedTensor
    assert found.encoding.scale.item() == pytest.approx(0.5 * abs(factor), rel=1e-7)
    codes = x.quantized_repr().int()
    mirrored = {False: codes, True: 255 - codes}[factor < 0]
    assert torch.equal(found.quantized_repr().int(), mirrored)


@pytest.mark.parametrize("grid", [(-128, 127), (0, 255)], ids=["int8", "uint8"])
def test_a_symmetric_grid_with_an_odd_end_has_no_mirror_image(grid: tuple[int, int]) -> None:
    encoding = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), *grid, symmetry=True)
    assert type(DequantizedTensor.carrying(values(), encoding) * -1) is torch.Tensor
    assert (DequantizedTensor.carrying(values(), encoding) * 2).encoding.symmetry


def test_a_narrow_symmetric_grid_is_its_own_mirror_image() -> None:
    encoding = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), -127, 127, symmetry=True)
    found = (DequantizedTensor.carrying(values(), encoding) * -1).encoding
    assert (found.scale.item(), found.offset.item()) == (0.5, 0.0)


def test_scales_of_channels_are_scaled_too() -> None:
    assert (per_channel(values()) * 2).encoding.scale.flatten().tolist() == [1.0, 0.5]


def test_codes_times_a_number_are_no_codes() -> None:
    assert type(per_tensor(values(), QuantizedTensor) * 2) is torch.Tensor


def test_a_product_may_name_its_arguments() -> None:
    assert torch.equal(torch.mul(input=per_tensor(values()), other=2), values() * 2)


@pytest.mark.parametrize(
    "scaled",
    [lambda x: x * float("inf"), lambda x: x * float("nan"), lambda x: x / float("inf")],
    ids=["times-inf", "times-nan", "over-inf"],
)
def test_a_factor_without_a_grid_leaves_no_encoding(scaled: Op) -> None:
    assert type(scaled(per_tensor(values()))) is torch.Tensor


TABLE = torch.arange(24.0).reshape(4, 6)


@pytest.mark.parametrize("kind", [QuantizedTensor, DequantizedTensor], ids=["codes", "values"])
@pytest.mark.parametrize(
    ("scale_shape", "block_size", "picked_shape", "picked_block_size"),
    [
        ((), None, (), None),
        ((4, 1), None, (2, 3, 1), None),
        ((1, 6), None, (1, 1, 6), None),
        ((6,), None, (1, 1, 6), None),
        ((4, 2), (1, 3), (2, 3, 2), (-1, -1, 3)),
        ((2, 2), (2, -1), (2, 3, 2), (-1, -1, 3)),
        ((2, 1), (-1, -1), (2, 3, 1), (-1, -1, 6)),
    ],
    ids=["tensor", "rows", "columns", "vector", "blocks", "blocks-of-rows", "blocks-open"],
)
def test_rows_of_a_table_come_with_the_scales_that_serve_them(
    kind: type[QuantizedTensorBase],
    scale_shape: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    picked_shape: tuple[int, ...],
    picked_block_size: tuple[int, ...] | None,
) -> None:
    scale = torch.rand(scale_shape) + 0.1
    encoding = AffineEncoding(scale, torch.full_like(scale, -1.0), 0, 255, block_size=block_size)
    table = kind.carrying(encoding.quantize_dequantize(TABLE), encoding)
    index = torch.tensor([[3, 0, 1], [2, 2, 3]])
    found = F.embedding(index, table)
    assert type(found) is kind
    assert (tuple(found.encoding.scale.shape), found.encoding.block_size) == (picked_shape, picked_block_size)
    if_quantized_after = F.embedding(index, table.quantize().as_subclass(torch.Tensor))
    assert torch.equal(found.quantize().as_subclass(torch.Tensor), if_quantized_after)


def test_a_table_may_be_named() -> None:
    assert type(F.embedding(input=torch.tensor([1]), weight=per_tensor(TABLE))) is DequantizedTensor


def test_rows_of_a_plain_table_are_plain() -> None:
    index = per_tensor(torch.zeros(2)).long()
    assert type(F.embedding(index, TABLE)) is torch.Tensor


def test_rows_of_a_table_without_an_encoding_are_plain() -> None:
    assert type(F.embedding(torch.tensor([1]), DequantizedTensor.carrying(TABLE, None))) is torch.Tensor


def test_no_function_is_in_two_groups() -> None:
    assert (frozenset(), frozenset(), frozenset()) == (KEEPS & CASTS, KEEPS & MOVES, CASTS & MOVES)
