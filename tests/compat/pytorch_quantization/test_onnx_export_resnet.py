"""ResNet-18 as the tutorial has it: initialize(), calibrate, fine-tune, export, run in ONNX Runtime."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxquant.compat.pytorch_quantization import enable_onnx_export, export_onnx, quant_modules
from fxquant.compat.pytorch_quantization import nn as quant_nn
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from tests.compat.pytorch_quantization.exported import EXPORTERS, constants, nodes, run
from tests.zoo.torchvision_models import import_torchvision

pytestmark = pytest.mark.slow

WEIGHTS = 21  # 20 convolutions and the classifier
# The pool has a quantizer too. Three layers beside a shortcut read what the shortcut reads: equal nodes of
# one input are one in the file of the current exporter.
INPUTS = {"torch-export": WEIGHTS + 1 - 3, "torchscript": WEIGHTS + 1}
NAMES = {"input_names": ["input"], "output_names": ["output"]}
METHODS: dict[str, dict[str, Any]] = {
    "max": {},
    "entropy": {"method": "entropy"},
    "percentile": {"method": "percentile", "percentile": 99.99},
    "mse": {"method": "mse"},
}


@pytest.fixture(autouse=True)
def _layers_quantize() -> Iterator[None]:
    """Let torch.nn make quantized layers."""
    quant_modules.initialize()
    yield
    quant_modules.deactivate()
    for layer in (quant_nn.QuantConv2d, quant_nn.QuantLinear, quant_nn.QuantAdaptiveAvgPool2d):
        layer.set_default_quant_desc_input(QuantDescriptor())


@pytest.mark.parametrize("method", METHODS)
def test_resnet18_gives_in_onnx_runtime_what_it_gives_in_simulation(method: str, tmp_path: Path) -> None:
    model, images = _calibrated(method)
    _fine_tune(model, images)
    path = export_onnx(model, images[:1], tmp_path / "resnet18.onnx", opset_version=18, **NAMES)
    proto = onnx.load(str(path))
    _check_form(proto)
    scores, codes = _run_with_codes(proto, images[:1])
    moved = _Moved(codes)
    with moved.watching(model), torch.no_grad():
        simulated = model(images[:1])
    # Sums in another order differ in their last bits, which puts a few activations of a million on the code
    # next to theirs. In a network that travels, so each layer is given what the file's layer was given.
    assert moved.farthest <= 1
    assert moved.count <= 1e-4 * moved.total
    # NVIDIA multiplies by 127 / amax and the file divides by amax / 127: some of the classifier's 512,000
    # weights lie so near to a tie that they get codes next to each other.
    one_step = float(model.fc.weight.abs().max() / 127 * model.fc.input_quantizer.amax)
    torch.testing.assert_close(simulated, torch.from_numpy(scores), atol=one_step, rtol=0.0)
    close = torch.isclose(simulated, torch.from_numpy(scores), atol=1e-5, rtol=1e-4)
    assert int((~close).sum()) <= 10


class _Moved:
    """Counts the codes of the simulation that are not those of the file, and goes on with the file's."""

    def __init__(self, codes: list[np.ndarray[Any, Any]]) -> None:
        self._codes = [torch.from_numpy(array).float() for array in codes]
        self._given: dict[int, torch.Tensor] = {}  # what a tensor that several quantizers read became
        self._kept: list[torch.Tensor] = []
        self.farthest, self.count, self.total = 0.0, 0, 0

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch the quantizers of inputs, which run in the order of the file."""
        found = [m for name, m in model.named_modules() if name.endswith("_input_quantizer")]
        handles = [quantizer.register_forward_hook(self._compare) for quantizer in found]
        yield
        for handle in handles:
            handle.remove()

    def _compare(self, quantizer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        key, step = id(inputs[0]), quantizer.amax / 127
        if key not in self._given:
            wanted = self._codes.pop(0)
            moved = ((output / step).round() - wanted).abs()
            self.farthest = max(self.farthest, float(moved.max()))
            self.count, self.total = self.count + int((moved > 0).sum()), self.total + moved.numel()
            self._given[key] = wanted * step
            self._kept.append(inputs[0])  # so that no other tensor gets its identity
        return self._given[key]


def _run_with_codes(
    proto: onnx.ModelProto, images: torch.Tensor
) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """Return the scores of a file, and the codes of its activations in order."""
    exposed = copy.deepcopy(proto)
    for node in nodes(exposed, "QuantizeLinear"):
        exposed.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    scores, *codes = session.run(None, {"input": images.numpy()})
    return scores, codes


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_file_of_torch_gives_the_same_to_the_bit(exporter: str, tmp_path: Path) -> None:
    model, images = _calibrated("max")
    with enable_onnx_export():
        torch.onnx.export(
            model, (images[:1],), str(tmp_path / "t.onnx"), opset_version=18, **NAMES, **EXPORTERS[exporter]
        )
    before = onnx.load(str(tmp_path / "t.onnx"))
    assert len(nodes(before, "QuantizeLinear")) == INPUTS[exporter] + WEIGHTS
    if exporter == "torchscript":  # its graph differs in more than weights: batch norms
        return
    after = onnx.load(str(export_onnx(model, images[:1], tmp_path / "f.onnx", opset_version=18, **NAMES)))
    np.testing.assert_array_equal(run(after, images[:1]), run(before, images[:1]))


def _calibrated(method: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a ResNet-18 with random weights, calibrated as the tutorial does: inputs only."""
    kind = "max" if method == "max" else "histogram"
    for layer in (quant_nn.QuantConv2d, quant_nn.QuantLinear, quant_nn.QuantAdaptiveAvgPool2d):
        layer.set_default_quant_desc_input(QuantDescriptor(calib_method=kind))
    torch.manual_seed(0)
    model = import_torchvision().models.resnet18(weights=None)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        model.train()(images)  # statistics of the batch norms
    model.eval()
    for name, module in model.named_modules():
        if name.endswith("_input_quantizer"):
            module.enable_calib()
            module.disable_quant()
    with torch.no_grad():
        model(images)
    for name, module in model.named_modules():
        if name.endswith("_input_quantizer"):
            module.load_calib_amax(**METHODS[method])
            module.disable_calib()
            module.enable_quant()
    return model, images


def _fine_tune(model: nn.Module, images: torch.Tensor) -> None:
    """Take one step and end in eval mode."""
    before = model.conv1.weight.detach().clone()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    assert not torch.equal(model.conv1.weight, before)
    model.eval()


def _check_form(proto: onnx.ModelProto) -> None:
    """Hold a file to int8 weights, per channel, and one quantizer per input."""
    held = constants(proto)
    assert len(nodes(proto, "QuantizeLinear")) == INPUTS["torch-export"]
    assert len(nodes(proto, "DequantizeLinear")) == INPUTS["torch-export"] + WEIGHTS
    weights = [array for array in held.values() if array.ndim == 4 or array.shape == (1000, 512)]
    assert len(weights) == WEIGHTS
    assert {array.dtype for array in weights} == {np.dtype(np.int8)}
    for node in nodes(proto, "DequantizeLinear"):
        if node.input[0] in held:
            assert held[node.input[1]].shape == held[node.input[0]].shape[:1]
            assert next(a.i for a in node.attribute if a.name == "axis") == 0
