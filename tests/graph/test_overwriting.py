"""overwritten, settled and FrugalCode: memory is reused where nobody can tell, and no number changes."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.fx.graph import CodeGen

import fxquant
from fxquant.graph.overwriting import overwritten, settled
from fxquant.quantization.affine import FrozenQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.of_spec import frozen

SHAPE = (2, 4, 64, 64)  # large enough to be overwritten


def _trainable(bitwidth: int = 8, symmetric: bool = False) -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), bitwidth, symmetric)
    quantizer.set_range(-1.0, 2.0)
    quantizer.returns_encoding = False
    return quantizer


def _frozen(bitwidth: int = 8, symmetric: bool = False) -> FrozenQuantizeDequantize:
    quantizer = frozen(_trainable(bitwidth, symmetric).get_encodings())
    assert isinstance(quantizer, FrozenQuantizeDequantize)
    return quantizer


MODULES: dict[str, Callable[[], nn.Module]] = {
    "trainable": _trainable,
    "frozen": _frozen,
    "frozen, 16 bits": lambda: _frozen(16),
    "frozen, symmetric": lambda: _frozen(8, True),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU("tanh"),
}


def _with_special_values(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38])
    tensor.view(-1)[: len(special)] = special
    return tensor.to(dtype)


VARIANTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": torch.clone,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3).contiguous().transpose(1, 3),
    "a view": lambda x: x.clone().view(-1, 64),
    "a slice of more": lambda x: torch.cat([x, x])[: len(x)],
    "every other column": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[:1].clone().expand(SHAPE),
    "empty": lambda x: x[:0].clone(),
    "float64": torch.Tensor.double,
    "float16": torch.Tensor.half,
    "bfloat16": torch.Tensor.bfloat16,
}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(sizes[tensor.itemsize])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
@pytest.mark.parametrize("make", MODULES.values(), ids=list(MODULES))
@torch.no_grad()
def test_overwriting_changes_no_bit(
    make: Callable[[], nn.Module], variant: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    module, values = make(), _with_special_values()
    expected = module(variant(values))
    found = overwritten(module, [variant(values)])
    assert torch.equal(_bits(found), _bits(expected))
    assert found.dtype is expected.dtype


@pytest.mark.parametrize("variant", ["contiguous", "channels last", "transposed", "a view"])
@pytest.mark.parametrize("make", MODULES.values(), ids=list(MODULES))
@torch.no_grad()
def test_an_operand_that_nobody_else_holds_is_overwritten(
    make: Callable[[], nn.Module], variant: str
) -> None:
    operand = [VARIANTS[variant](_with_special_values())]
    address = operand[0].data_ptr()
    assert overwritten(make(), operand).data_ptr() == address


HOLDERS: dict[str, Callable[[torch.Tensor], object]] = {
    "a name": lambda x: x,
    "a view": lambda x: x[0],
    "a detached tensor": lambda x: x.detach(),
    "numpy": lambda x: x.numpy(),
    "its storage": lambda x: x.untyped_storage(),
    "another type of the same bits": lambda x: x.view(torch.int32),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=list(HOLDERS))
@torch.no_grad()
def test_a_tensor_that_somebody_holds_is_not_overwritten(hold: Callable[[torch.Tensor], object]) -> None:
    operand = [_with_special_values()]
    holder, address = hold(operand[0]), operand[0].data_ptr()
    assert overwritten(_frozen(), operand).data_ptr() != address
    assert holder is not None


@torch.no_grad()
def test_memory_of_numpy_is_not_overwritten_even_where_torch_knows_of_no_holder() -> None:
    array = np.ones(SHAPE, np.float32) * 0.123
    overwritten(_frozen(), [torch.from_numpy(array)])
    assert (array == np.float32(0.123)).all()


def test_where_a_gradient_is_wanted_nothing_is_overwritten() -> None:
    quantizer, leaf = _trainable(), torch.randn(SHAPE, requires_grad=True)
    overwritten(quantizer, [leaf * 1]).sum().backward()
    gradient, leaf.grad = leaf.grad, None
    quantizer(leaf * 1).sum().backward()
    assert torch.equal(gradient, leaf.grad)


def test_a_trained_range_gets_its_gradient() -> None:
    quantizer = _trainable()
    overwritten(quantizer, [torch.randn(SHAPE)]).sum().backward()
    assert quantizer._parameters["min"].grad is not None


@torch.no_grad()
def test_hooks_see_every_call() -> None:
    quantizer, seen = _frozen(), []
    quantizer.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    operand = _with_special_values()
    overwritten(quantizer, [operand.clone()])
    settled(quantizer, quantizer(operand))
    assert len(seen) == 3
    assert torch.equal(_bits(seen[0]), _bits(operand))


@torch.no_grad()
def test_a_patched_forward_is_called() -> None:
    quantizer = _frozen()
    quantizer.forward = lambda input: input + 1
    assert torch.equal(overwritten(quantizer, [torch.zeros(SHAPE)]), torch.ones(SHAPE))


@torch.no_grad()
def test_an_observing_quantizer_observes() -> None:
    quantizer = _trainable()
    with quantizer.compute_encodings():
        overwritten(quantizer, [torch.full(SHAPE, 5.0)])
        settled(quantizer, torch.full(SHAPE, 7.0))
    assert quantizer.get_max() == 7.0


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 3e-7, 0.1, 1.0, 1e30, 1e36])
@pytest.mark.parametrize("bitwidth", [2, 8, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@torch.no_grad()
def test_settled_changes_no_bit(scale: float, bitwidth: int, dtype: torch.dtype) -> None:
    quantizer = _frozen(bitwidth)
    quantizer.scale.fill_(scale)
    values = quantizer((_with_special_values() * scale * 2**bitwidth / 2).to(dtype))
    assert torch.equal(_bits(settled(quantizer, values)), _bits(quantizer(values)))


@torch.no_grad()
def test_settled_values_are_not_quantized_again() -> None:
    quantizer = _frozen()
    values = quantizer(_with_special_values())
    assert settled(quantizer, values) is values


class Residual(nn.Module):
    """A convolution read twice, a view of a quantized tensor, an activation, a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.act(self.conv(x))
        z = self.linear(y.reshape(-1, 64).reshape(y.shape).transpose(2, 3))
        return z + y, self.act(z)


@pytest.fixture(scope="module", params=["onnxruntime", "qualcomm"])
def models(request: pytest.FixtureRequest) -> tuple[fx.GraphModule, fx.GraphModule]:
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 64, 64)
    prepared = fxquant.prepare(Residual().eval(), target=request.param)
    fxquant.calibrate(prepared, [batch])
    return prepared, fxquant.convert(prepared)


def _written_plainly(model: fx.GraphModule) -> fx.GraphModule:
    plain = copy.deepcopy(model)
    plain.graph.set_codegen(CodeGen())
    plain.recompile()
    return plain


@pytest.mark.parametrize("stage", [0, 1], ids=["prepared", "quantized"])
def test_a_model_gives_what_the_plain_code_gives(models: tuple[fx.GraphModule, ...], stage: int) -> None:
    model, x = models[stage], torch.randn(4, 3, 64, 64)
    assert "overwritten(" in model.code
    before, plain = x.clone(), _written_plainly(model)
    assert "overwritten(" not in plain.code
    with torch.no_grad():
        for found, expected in zip(model(x), plain(x), strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(x, before)


def test_moved_values_of_a_quantizer_are_settled(models: tuple[fx.GraphModule, ...]) -> None:
    assert "settled(" in models[1].code


def test_what_a_hook_keeps_stays_as_it_was(models: tuple[fx.GraphModule, ...]) -> None:
    model, kept, x = copy.deepcopy(models[1]), [], torch.randn(4, 3, 64, 64)
    model.conv.register_forward_hook(lambda module, args, output: kept.extend((output, output.clone())))
    with torch.no_grad():
        model(x)
    assert torch.equal(*kept)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"]
)
def test_copies_are_written_alike(
    models: tuple[fx.GraphModule, ...], copied: Callable[[fx.GraphModule], fx.GraphModule]
) -> None:
    again, x = copied(models[1]), torch.randn(4, 3, 64, 64)
    assert "overwritten(" in again.code
    assert [node.op for node in again.graph.nodes] == [node.op for node in models[1].graph.nodes]
    with torch.no_grad():
        assert torch.equal(again(x)[0], models[1](x)[0])


def test_dropout_in_training_is_quantized_again():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x):
            return self.second(nn.functional.dropout(self.first(x), 0.5, True))

    batch = torch.randn(8, 64)
    prepared = fxquant.prepare(Drops().eval(), batch, target="qualcomm")
    fxquant.calibrate(prepared, [batch])
    with torch.no_grad():
        torch.manual_seed(1)
        found = prepared(batch)
        torch.manual_seed(1)
        assert torch.equal(found, torch.fx.Interpreter(prepared).run(batch))
