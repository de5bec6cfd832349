"""QuantizeDequantize: construction, calibration, and what it computes."""

import pytest
import torch
from hypothesis import given
from torch import nn

from fxquant.errors import NotCalibratedError, OptionError, QuantizerError
from fxquant.quantization import MinMaxEncodingAnalyzer, QuantizationSpec
from fxquant.quantization.affine import QuantizeDequantize
from tests.quantization.strategies import specs, tensors

EPS = torch.finfo(torch.float32).eps


@pytest.fixture
def quantizer() -> QuantizeDequantize:
    """Return a quantizer without a range."""
    return QuantizeDequantize((), 8, False)


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (QuantizeDequantize((), -128, 127, True), "shape=(), qmin=-128, qmax=127, symmetric=True"),
        (QuantizeDequantize((), -128, 127, symmetric=True), "shape=(), qmin=-128, qmax=127, symmetric=True"),
        (
            QuantizeDequantize((), qmin=0, qmax=9, symmetric=False),
            "shape=(), qmin=0, qmax=9, symmetric=False",
        ),
        (QuantizeDequantize((), 8, True), "shape=(), qmin=-128, qmax=127, symmetric=True"),
        (QuantizeDequantize((), 8, symmetric=False), "shape=(), qmin=0, qmax=255, symmetric=False"),
        (
            QuantizeDequantize(shape=3, bitwidth=4, symmetric=True),
            "shape=(3,), qmin=-8, qmax=7, symmetric=True",
        ),
        (QuantizeDequantize((8, 1), 16, False), "shape=(8, 1), qmin=0, qmax=65535, symmetric=False"),
    ],
    ids=["grid", "grid-mixed", "grid-keywords", "bits", "bits-mixed", "bits-keywords", "per-channel"],
)
def test_both_forms_of_arguments_are_read(built: QuantizeDequantize, text: str) -> None:
    assert repr(built) == f"QuantizeDequantize({text})"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((8,), {}),
        ((-128, 127), {}),
        ((8, True), {"bitwidth": 8}),
        ((8, True), {"foo": 1}),
        ((-128, 127, True, True), {}),
        ((8,), {"symmetric": 1}),
        ((), {"qmin": 0, "bitwidth": 8, "symmetric": True}),
    ],
    ids=["none", "no-symmetric", "no-symmetric-grid", "twice", "unknown", "too-many", "not-bool", "mixture"],
)
def test_arguments_of_neither_form_are_a_type_error(
    args: tuple[int | bool, ...], kwargs: dict[str, int]
) -> None:
    with pytest.raises(TypeError, match=r"Unexpected arguments\. Expected one of:"):
        QuantizeDequantize((), *args, **kwargs)


@pytest.mark.parametrize("args", [(127, -128, True), (5, 5, False), (1, True), (33, False)], ids=str)
def test_a_grid_without_steps_is_refused(args: tuple[int | bool, ...]) -> None:
    with pytest.raises(OptionError):
        QuantizeDequantize((), *args)


def test_an_analyzer_of_another_shape_is_refused() -> None:
    with pytest.raises(QuantizerError, match=r"An analyzer of shape \(3,\) cannot serve"):
        QuantizeDequantize((), 8, True, encoding_analyzer=MinMaxEncodingAnalyzer((3,)))


@pytest.mark.parametrize(
    ("grid", "data", "expected"),
    [
        ((8, True), (-1.0, 2.0), (-2.015748, 2.0, 0.015748031, 0.0)),
        ((8, True), (-2.0, 1.0), (-2.0, 1.984375, 0.015625, 0.0)),
        ((4, True), (-1.0, 1.0), (-1.1428572, 1.0, 0.14285713, 0.0)),
        ((2, True), (-1.0, 1.0), (-1.0, 0.5, 0.5, 0.0)),
        ((8, False), (0.5, 1.0), (0.0, 1.0, 0.0039215689, 0.0)),
        ((8, False), (-1.0, -0.5), (-1.0, 0.0, 0.0039215689, -255.0)),
        ((8, False), (0.0, 0.0), (0.0, 3.0398369e-05, 1.1920929e-07, 0.0)),
        ((8, True), (0.0, 0.0), (-1.5258789e-05, 1.513958e-05, 1.1920929e-07, 0.0)),
        ((-127, 127, True), (-1.0, 2.0), (-2.0, 2.0, 2 / 127, 0.0)),
    ],
    ids=[
        "int8-above",
        "int8-below",
        "int4",
        "int2",
        "uint8-positive",
        "uint8-negative",
        "uint8-zeros",
        "int8-zeros",
        "narrow",
    ],
)
def test_calibration_gives_the_golden_encodings(
    grid: tuple[int | bool, ...], data: tuple[float, float], expected: tuple[float, ...]
) -> None:
    quantizer = QuantizeDequantize((), *grid)
    with quantizer.compute_encodings():
        quantizer(torch.tensor(data))
    found = quantizer.min, quantizer.max, quantizer.get_scale(), quantizer.get_offset()
    # 2 eps: the golden values are printed with 8 digits, which is half an eps, and computed with 3 roundings.
    assert [value.item() for value in found] == pytest.approx(expected, rel=2 * EPS)


def test_the_grid_may_end_elsewhere_than_the_range() -> None:
    quantizer = QuantizeDequantize((), 16, False)
    quantizer.set_range(-1.0, 3.0)
    # The golden values; half an eps of a float32 near 3 and the digits printed are below 2e-7.
    assert quantizer.get_min().item() == pytest.approx(-1.0000153, abs=2e-7)
    assert quantizer.get_max().item() == pytest.approx(2.9999847, abs=2e-7)


@given(spec=specs(), tensor=tensors().filter(lambda tensor: tensor.numel() > 0))
def test_calibrated_values_are_off_by_at_most_half_a_step(
    spec: QuantizationSpec, tensor: torch.Tensor
) -> None:
    quantizer = QuantizeDequantize.from_spec(spec)
    with quantizer.compute_encodings():
        quantizer(tensor)
    encoding = quantizer.get_encodings()
    x = tensor.clamp(encoding.min.item(), encoding.max.item())  # 2 bits do not reach up to the maximum
    allowance = 4 * encoding.num_steps * EPS  # test_functional derives it
    assert ((quantizer(x) - x).abs() <= encoding.scale * (0.5 + allowance)).all()


def test_observing_passes_the_input_on(quantizer: QuantizeDequantize) -> None:
    x = torch.randn(5)
    with quantizer.compute_encodings():
        assert quantizer(x) is x


def test_calibration_starts_anew_each_time(quantizer: QuantizeDequantize) -> None:
    with quantizer.compute_encodings():
        quantizer(torch.tensor([-9.0, 9.0]))
    with quantizer.compute_encodings():
        quantizer(torch.tensor([0.0, 1.0]))
    assert (quantizer.min.item(), quantizer.max.item()) == (0.0, 1.0)


def test_an_exception_during_calibration_writes_nothing(quantizer: QuantizeDequantize) -> None:
    quantizer.set_range(-1.0, 1.0)
    with pytest.raises(RuntimeError, match="invalid for input of size"), quantizer.compute_encodings():
        quantizer(torch.tensor([-9.0, 9.0])).view(7)
    assert (quantizer.min.item(), quantizer.max.item()) == (-1.0, 1.0)
    assert quantizer(torch.tensor(9.0)).item() == quantizer.get_max().item()  # it quantizes again


@pytest.mark.parametrize("data", [[], [torch.empty(0)]], ids=["no-tensor", "empty-tensor"])
def test_calibration_without_data_keeps_the_range(
    quantizer: QuantizeDequantize, data: list[torch.Tensor]
) -> None:
    quantizer.set_range(-1.0, 2.0)
    with quantizer.compute_encodings():
        _ = [quantizer(tensor) for tensor in data]
    assert (quantizer.min.item(), quantizer.max.item()) == (-1.0, 2.0)


def test_a_range_that_may_not_be_overwritten_survives_calibration(quantizer: QuantizeDequantize) -> None:
    quantizer.set_range(-1.0, 1.0)
    quantizer.allow_overwrite(False)
    with quantizer.compute_encodings():
        clipped = quantizer(torch.tensor(9.0))  # it quantizes, as outside of calibration
    assert not quantizer.is_overwrite_allowed()
    assert clipped.item() == quantizer.get_max().item()
    assert (quantizer.min.item(), quantizer.max.item()) == (-1.0, 1.0)


def test_setting_one_end_leaves_the_other(quantizer: QuantizeDequantize) -> None:
    quantizer.set_range(-1.0, 2.0)
    quantizer.set_range(None, torch.tensor(5.0))
    assert (quantizer.min.item(), quantizer.max.item()) == (-1.0, 5.0)


def test_a_number_sets_the_range_of_every_channel() -> None:
    quantizer = QuantizeDequantize((2, 1), 8, True)
    quantizer.set_range(-1.0, torch.tensor([[1.0], [2.0]]))
    assert (quantizer.min.tolist(), quantizer.max.tolist()) == ([[-1.0], [-1.0]], [[1.0], [2.0]])


def test_running_without_a_range_is_an_error(quantizer: QuantizeDequantize) -> None:
    with pytest.raises(NotCalibratedError, match="Failed to run QuantizeDequantize since quantization param"):
        quantizer(torch.ones(1))


@pytest.mark.parametrize("name", ["get_scale", "get_offset", "get_min", "get_max", "get_encodings"])
def test_there_is_no_encoding_without_a_range(quantizer: QuantizeDequantize, name: str) -> None:
    assert getattr(quantizer, name)() is None


def test_a_fixed_range_needs_no_data_and_stays() -> None:
    spec = QuantizationSpec(signed=False, symmetric=False, channel_axis=0, fixed_range=(0.0, 1.0))
    quantizer = QuantizeDequantize.from_spec(spec, (2, 3))
    assert quantizer.get_max().tolist() == [[1.0], [1.0]]
    assert not quantizer.is_overwrite_allowed()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("needs_grad", [True, False], ids=["training", "inference"])
def test_it_compiles_without_a_graph_break(quantizer: QuantizeDequantize, needs_grad: bool) -> None:
    quantizer.set_range(-1.0, 1.0)
    quantizer.requires_grad_(needs_grad)
    x = torch.randn(20, requires_grad=needs_grad)
    assert torch.equal(torch.compile(quantizer, fullgraph=True, backend="eager")(x), quantizer(x))


def test_the_range_learns(quantizer: QuantizeDequantize) -> None:
    quantizer.set_range(-1.0, 1.0)
    quantizer(torch.tensor([-3.0, -0.3, 0.2, 0.71, 4.0])).sum().backward()
    assert isinstance(quantizer.min, nn.Parameter)
    assert quantizer.min.grad.item() == pytest.approx(0.9952, abs=5e-5)  # the golden values have four digits
    assert quantizer.max.grad.item() == pytest.approx(1.0048, abs=5e-5)
