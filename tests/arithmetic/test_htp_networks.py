"""Whole networks: the simulation in HTP's arithmetic against HTP's simulator, every code of every tensor."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.quantization import QuantizerBase
from tests.zoo.torchvision_models import build

ARITHMETICS = {"V75": "htp", "V68": "htp-v68"}


class Residual(nn.Module):
    """A convolution of each kind, a sum, a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, stride=2, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Conv2d(24, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = torch.relu(self.pointwise(nn.functional.relu6(self.depthwise(x))))
        return self.head(self.pool(x))


class Codes(fx.Interpreter):
    """Runs a quantized model and keeps the codes behind each quantizer."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.codes: list[torch.Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        quantizer = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(quantizer, QuantizerBase):
            encoding: Any = quantizer.get_encodings()
            self.codes.append((result / encoding.scale).round() - encoding.offset)
        return result


class Products(nn.Module):
    """Products of two activations, as in attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(-2, -1)
        return scores @ self.value(x)


def differing(model: nn.Module, shape: tuple[int, ...], architecture: str, folder: Path) -> list[int]:
    """Return how many codes differ, tensor by tensor, for an input on its grid."""
    from tests.peers.htp.simulator import run_all_on_htp

    x = torch.randn(*shape)
    prepared = fxquant.prepare(model.eval(), example_inputs=x, target="generic")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared, arithmetic=ARITHMETICS[architecture])
    behind_input = next(node for node in quantized.graph.nodes if node.op == "call_module")
    x = quantized.get_submodule(str(behind_input.target))(x).detach()  # the HTP rounds others in its own way
    file = onnx.load(fxquant.export(quantized, folder).onnx)
    found = run_all_on_htp(file, x.numpy(), architecture)
    interpreter = Codes(quantized)
    with torch.no_grad():
        interpreter.run(x)
    assert len(found) == len(interpreter.codes)
    pairs = zip(found, interpreter.codes, strict=True)
    return [int((torch.from_numpy(codes) != own.reshape(codes.shape)).sum()) for codes, own in pairs]


@pytest.mark.parametrize("arithmetic", ARITHMETICS.values())
def test_every_op_of_a_small_network_has_a_formula_that_rounds_its_own_way(arithmetic: str) -> None:
    model, x = Residual().eval(), torch.randn(4, 3, 16, 16)
    prepared = fxquant.prepare(model, example_inputs=x, target="generic")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared, arithmetic=arithmetic)
    assert fxquant.report(quantized).declined("swap-arithmetic") == []
    assert not torch.equal(quantized(x), fxquant.convert(prepared, arithmetic="integer")(x))


@pytest.mark.htp
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARITHMETICS)
def test_no_code_of_a_small_network_differs(architecture: str, tmp_path: Path) -> None:
    assert sum(differing(Residual(), (1, 3, 16, 16), architecture, tmp_path)) == 0


@pytest.mark.htp
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_no_code_of_an_architecture_differs(name: str, tmp_path: Path) -> None:
    assert sum(differing(build(name), (1, 3, 64, 64), "V75", tmp_path)) == 0


@pytest.mark.htp
@pytest.mark.slow
@pytest.mark.parametrize(("arithmetic", "soc"), [("htp", "sm8650"), ("htp-v68", "sm8350")])
def test_no_code_of_a_product_of_activations_differs(arithmetic: str, soc: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 16)  # of rank 3 a transposed factor is multiplied by another kernel
    prepared = fxquant.prepare(Products().eval(), x, target="qualcomm")
    fxquant.calibrate(prepared, [x])
    quantized = fxquant.convert(prepared, arithmetic=arithmetic)
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [x], runtime="htp", soc=soc)
    assert {t.name: t.differing for t in report.tensors if t.op == "matmul"} == {"matmul": 0, "matmul_1": 0}
