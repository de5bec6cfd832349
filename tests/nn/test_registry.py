"""Who has a quantized class, and how a user gives one to a module of his own."""

import ast
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fxquant.errors import ModelTypeError, OptionError
from fxquant.nn import QuantizationMixin, QuantizedConv2d, UnknownModuleError, quantized_class_of
from fxquant.quantization.affine import QuantizeDequantize


class DoublesItsOutput(nn.Conv2d):
    """Computes something else than its base."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class DoublesItsWeight(nn.Conv2d):
    """Computes something else than its base, below forward."""

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return super()._conv_forward(input, 2 * weight, bias)


class Named(nn.Conv2d):
    """Computes what its base computes."""


class Shift(nn.Module):
    """A module that fxquant does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.full((2,), 0.3))

    def forward(self, x: torch.Tensor, *rest: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return x * scale + self.shift


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    rooms = (QuantizationMixin.cls_to_qcls, QuantizationMixin.qcls_to_cls, QuantizationMixin._ignored)
    before = [room.copy() for room in rooms]
    yield
    for room, contents in zip(rooms, before, strict=True):
        room.clear()
        room.update(contents)
    QuantizationMixin.ignore_unknown_modules(False)


def test_a_subclass_that_computes_the_same_is_served_by_its_base() -> None:
    assert quantized_class_of(Named) is QuantizedConv2d


@pytest.mark.parametrize("module_class", [DoublesItsOutput, DoublesItsWeight])
def test_a_subclass_that_computes_something_else_has_no_quantized_class(
    module_class: type[nn.Module],
) -> None:
    assert quantized_class_of(module_class) is None


@pytest.mark.parametrize(
    "parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm], ids=["weight", "spectral"]
)
def test_a_parametrized_module_is_refused(parametrize: object) -> None:
    module = parametrize(nn.Conv2d(3, 4, 3)).eval()  # type: ignore[operator]
    with pytest.raises(ModelTypeError, match="has no weight of its own"):
        QuantizationMixin.from_module(module)


def test_an_unknown_module_is_an_error_that_shows_how_to_write_a_class() -> None:
    with pytest.raises(UnknownModuleError, match=r"There is no quantized class for Shift\.") as error:
        QuantizationMixin.from_module(Shift())
    assert "class QuantizedShift(QuantizationMixin, Shift):" in str(error.value)
    assert issubclass(UnknownModuleError, RuntimeError)
    assert issubclass(UnknownModuleError, ModelTypeError)


@pytest.mark.parametrize("module_class", [Shift, nn.Linear, nn.LSTM, nn.Identity])
def test_the_shown_class_is_python(module_class: type[nn.Module]) -> None:
    ast.parse(UnknownModuleError(module_class, QuantizationMixin).generate_code_example())


def test_a_user_can_register_a_class_of_his_own() -> None:
    @QuantizationMixin.implements(Shift)
    class QuantizedShift(QuantizationMixin, Shift):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with self._patch_quantized_parameters():
                output = super().forward(x)
            return self.output_quantizers[0](output) if self.output_quantizers[0] else output

    module = QuantizationMixin.from_module(Shift())
    module.param_quantizers["shift"] = module.output_quantizers[0] = _quantizer()
    assert isinstance(module, QuantizedShift)
    assert torch.equal(module(torch.ones(2)), _quantizer()(1 + _quantizer()(torch.full((2,), 0.3))))
    assert type(module.get_original_module()) is Shift


def test_quantized_forward_is_taken_for_forward() -> None:
    class QuantizedShift(QuantizationMixin, Shift):
        def quantized_forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)

    assert torch.equal(QuantizedShift()(torch.zeros(2)), -torch.full((2,), 0.3))


def test_wrap_makes_a_class_once() -> None:
    made = QuantizationMixin.wrap(Shift)
    assert issubclass(made, (QuantizationMixin, Shift))
    assert QuantizationMixin.wrap(Shift) is made
    assert QuantizationMixin.wrap(nn.Conv2d) is QuantizedConv2d


def test_only_modules_can_be_wrapped() -> None:
    with pytest.raises(OptionError, match="Expected module_cls to be a subclass"):
        QuantizationMixin.wrap(int)  # type: ignore[arg-type]


def test_an_ignored_class_stays_as_it_is() -> None:
    QuantizationMixin.ignore(nn.Conv2d)
    conv = nn.Conv2d(1, 1, 1)
    assert QuantizationMixin.from_module(conv) is conv
    assert quantized_class_of(nn.Conv2d) is None


def test_unknown_modules_can_be_left_as_they_are() -> None:
    QuantizationMixin.ignore_unknown_modules()
    shift = Shift()
    assert QuantizationMixin.from_module(shift) is shift


@pytest.mark.parametrize(
    ("name", "inputs"), [("__nullary__", 0), ("__unary__", 1), ("__binary__", 2), ("__ternary__", 3)]
)
def test_a_class_can_say_how_many_inputs_it_has(name: str, inputs: int) -> None:
    made = type(
        "QuantizedShift", (QuantizationMixin, Shift), {"__quant_init__": getattr(QuantizationMixin, name)}
    )
    module = made()
    assert [len(module.input_quantizers), len(module.output_quantizers)] == [inputs, 1]
    assert list(module.param_quantizers) == ["shift"]


def _quantizer() -> QuantizeDequantize:
    quantizer = QuantizeDequantize((), 4, True)
    quantizer.set_range(-2.0, 2.0)
    return quantizer
