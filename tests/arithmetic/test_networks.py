"""Whole networks: the integer simulation against the file, every code of every tensor and every output."""

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.analysis import ParityReport
from fxquant.errors import OptionError
from fxquant.nn import QuantizationMixin
from tests import digits, networks
from tests.zoo import small_models
from tests.zoo.torchvision_models import build


class Chain(nn.Sequential):
    """Convolutions in a row, where one code that differs spreads to many."""

    def __init__(self, depth: int, width: int) -> None:
        sizes = [3, *[width] * depth]
        layers = [
            layer
            for index in range(depth)
            for layer in (nn.Conv2d(sizes[index], sizes[index + 1], 3, padding=1), nn.ReLU6())
        ]
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)


def simulated(model: nn.Module, batches: list[torch.Tensor], target: str = "onnxruntime") -> fx.GraphModule:
    prepared = fxquant.prepare(model, example_inputs=batches[0], target=target)
    fxquant.calibrate(prepared, batches)
    return fxquant.convert(prepared, arithmetic="integer")


def ones(state: object) -> object:
    return torch.ones_like(state) if isinstance(state, torch.Tensor) else state


def differences(report: ParityReport) -> tuple[int, int, float]:
    """Codes that differ op by op and end to end, and the largest difference of an output."""
    return (
        sum(tensor.differing for tensor in report.tensors),
        sum(tensor.drifted for tensor in report.tensors),
        max(output.max_difference for output in report.outputs),
    )


def check(
    model: nn.Module, shape: tuple[int, ...], folder, batches: int, target: str = "onnxruntime"
) -> None:
    data = [torch.randn(*shape) for _ in range(batches)]
    quantized = simulated(model.eval(), data[:2], target)
    files = fxquant.export(quantized, folder)
    assert differences(fxquant.verify(quantized, files, data)) == (0, 0, 0.0)


def test_no_output_of_the_digits_classifier_differs_on_any_held_out_image() -> None:
    quantized = fxquant.convert(digits.prepared("onnxruntime"), arithmetic="integer")
    images = digits.split().test_images.split(200)
    report = fxquant.verify(quantized, digits.files("onnxruntime"), images)
    assert differences(report) == (0, 0, 0.0)
    declined = fxquant.report(quantized).declined("swap-arithmetic")
    assert [site.op for site in declined] == ["hard_sigmoid"]  # which ONNX Runtime computes in float, too


SMALL = [
    pytest.param(networks.FusedAttention, (2, 9, 16), "onnxruntime", id="attention"),
    pytest.param(networks.FusedAttention, (2, 9, 16), "generic", id="attention, float biases"),
    pytest.param(networks.UNet, (1, 3, 16, 16), "onnxruntime", id="unet"),
    pytest.param(partial(Chain, 4, 8), (2, 3, 9, 9), "onnxruntime", id="chain"),
]


@pytest.mark.parametrize(("make", "shape", "target"), SMALL)
def test_no_code_of_a_small_network_differs(
    make: Callable[[], nn.Module], shape: tuple[int, ...], target: str, tmp_path
) -> None:
    check(make(), shape, tmp_path, 4, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "googlenet", "vgg11_bn"])
def test_no_code_of_an_architecture_differs(name: str, tmp_path) -> None:
    check(build(name), (6, 3, 64, 64), tmp_path, 6)


@pytest.mark.slow
def test_no_code_of_a_chain_of_29_convolutions_differs(tmp_path) -> None:
    check(Chain(29, 32), (6, 3, 24, 24), tmp_path, 6)


@pytest.mark.slow
def test_simulation_in_float_differs_on_a_chain(tmp_path) -> None:
    data = [torch.randn(4, 3, 16, 16) for _ in range(4)]
    prepared = fxquant.prepare(Chain(12, 16).eval(), target="onnxruntime")
    fxquant.calibrate(prepared, data)
    quantized = fxquant.convert(prepared)
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), data)
    assert sum(tensor.drifted for tensor in report.tensors) > 0


@pytest.mark.parametrize("name", ["residual", "reuse"])
def test_file_and_encodings_do_not_depend_on_the_arithmetic(name: str, tmp_path) -> None:
    model, inputs = small_models.build(name)
    prepared = fxquant.prepare(model, example_inputs=inputs, target="onnxruntime")
    fxquant.calibrate(prepared, [inputs])
    files = [
        fxquant.export(fxquant.convert(prepared, arithmetic=arithmetic), tmp_path / f"{arithmetic}.onnx")
        for arithmetic in ("float", "integer")
    ]
    assert files[0].onnx.read_bytes() == files[1].onnx.read_bytes()
    assert files[0].encodings.read_bytes() == files[1].encodings.read_bytes()


@pytest.fixture(scope="module")
def chain() -> fx.GraphModule:
    torch.manual_seed(0)
    return simulated(Chain(3, 8).eval(), [torch.randn(2, 3, 9, 9)])


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda model: pickle.loads(pickle.dumps(model)), id="pickle"),
    ],
)
def test_copy_computes_the_same_and_exports_the_same_file(copied, chain, tmp_path) -> None:
    x = torch.randn(2, 3, 9, 9)
    twin = copied(chain)
    assert torch.equal(twin(x), chain(x))
    first, second = fxquant.export(chain, tmp_path / "1.onnx"), fxquant.export(twin, tmp_path / "2.onnx")
    assert first.onnx.read_bytes() == second.onnx.read_bytes()


def test_state_has_the_names_that_it_has_in_float() -> None:
    prepared = fxquant.prepare(Chain(2, 4).eval(), target="onnxruntime")
    x = torch.randn(2, 3, 5, 5)
    fxquant.calibrate(prepared, [x])
    plain, kernels = (fxquant.convert(prepared, arithmetic=name) for name in ("float", "integer"))
    assert kernels.state_dict().keys() == plain.state_dict().keys()
    before = kernels(x)
    kernels.load_state_dict({name: ones(state) for name, state in plain.state_dict().items()})
    assert not torch.equal(kernels(x), before)
    kernels.load_state_dict(plain.state_dict())
    assert torch.equal(kernels(x), before)


def test_gradients_stop_at_integers_and_values_do_not_depend_on_grad_mode(chain: fx.GraphModule) -> None:
    x = torch.randn(2, 3, 9, 9, requires_grad=True)
    with torch.no_grad():
        without = chain(x)
    assert torch.equal(chain(x), without)
    assert not chain(x).requires_grad


def test_batch_by_batch_gives_what_the_whole_gives(chain: fx.GraphModule) -> None:
    x = torch.randn(6, 3, 9, 9)
    assert torch.equal(torch.cat([chain(part) for part in x.split(2)]), chain(x))


def test_weights_loaded_later_are_the_ones_that_count(chain: fx.GraphModule) -> None:
    x, other = torch.randn(2, 3, 9, 9), copy.deepcopy(chain)
    before = other(x)
    for module in other.modules():
        if isinstance(module, QuantizationMixin) and getattr(module, "weight", None) is not None:
            module.weight.mul_(-1)
    assert not torch.equal(other(x), before)
    other.load_state_dict(chain.state_dict())
    assert torch.equal(other(x), before)


def test_unknown_arithmetic_is_refused_before_anything_is_done() -> None:
    prepared = fxquant.prepare(Chain(1, 4))
    with pytest.raises(OptionError, match=r"no arithmetic 'intger'\. Did you mean 'integer'"):
        fxquant.convert(prepared, arithmetic="intger")
