"""export_onnx: a file whose weights are integers gives what one gives that quantizes them, to the bit."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fxquant.compat.pytorch_quantization import enable_onnx_export, export_onnx
from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.errors import ExportError
from tests.compat.pytorch_quantization.exported import (
    calibrated,
    constants,
    export,
    network,
    nodes,
    quantizers,
    run,
)

pytestmark = pytest.mark.slow

NAMES = {"input_names": ["input"], "output_names": ["output"]}


class Joined(nn.Module):
    """Quantizes two weights as one, as an LSTM does, and the same weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(16, 16)), nn.Parameter(torch.randn(16, 16))
        self.quantizer, self.other = TensorQuantizer(), TensorQuantizer()
        self.quantizer.amax, self.other.amax = 2.0, 1.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.quantizer(torch.cat([self.first, self.second], 1))
        return x @ both @ both.T + x @ self.other(self.first)


@pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "as-written"])
@pytest.mark.parametrize("options", [{"axis": 0}, {}], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_results_are_the_same_to_the_bit(
    dtype: torch.dtype, options: dict[str, object], optimized: bool, tmp_path: Path
) -> None:
    model, x = calibrated(dtype, **options)
    with enable_onnx_export():
        before = export(model, x, "torch-export", opset_version=18)
    after = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", opset_version=18, **NAMES)))
    np.testing.assert_array_equal(run(after, x, optimized=optimized), run(before, x, optimized=optimized))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_weights_are_integers_in_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    model, x = calibrated(dtype, axis=0)
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", **NAMES)))
    matrices = [array for array in constants(proto).values() if array.ndim == 2]
    assert [array.dtype for array in matrices] == [np.int8] * 3
    assert len(nodes(proto, "QuantizeLinear")) == 3  # of the inputs
    assert len(nodes(proto, "DequantizeLinear")) == 6
    weight = model[0].linear.weight.detach().float()
    scale = model[0]._weight_quantizer.amax.float() / 127
    codes = constants(proto)[_weight_codes(proto)]
    np.testing.assert_array_equal(codes, torch.round(weight / scale).clamp(-128, 127).numpy())


def test_a_file_is_small(tmp_path: Path) -> None:
    model = nn.Sequential(*[network(axis=0)[4] for _ in range(2)], nn.Linear(16, 1))[:1]
    layer = model[0]
    layer.linear = nn.Linear(1024, 1024)
    for quantizer in quantizers(model):
        quantizer.amax = 2.0
    path = export_onnx(model, torch.randn(2, 1024), tmp_path / "model.onnx")
    assert path.stat().st_size < 1.02 * 1024 * 1024 + 8 * 1024


def test_amax_of_a_weight_that_was_not_calibrated_is_computed_for_the_file(tmp_path: Path) -> None:
    model, x = calibrated(axis=0)
    expected = onnx.load(str(export_onnx(model, x, tmp_path / "calibrated.onnx", **NAMES)))
    for layer in model[::2]:
        del layer._weight_quantizer._amax
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", **NAMES)))
    assert {node.op_type for node in proto.graph.node} == {node.op_type for node in expected.graph.node}
    np.testing.assert_array_equal(run(proto, x), run(expected, x))


def test_weights_that_are_joined_or_quantized_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Joined(), torch.randn(4, 16)
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", **NAMES)))
    assert not nodes(proto, "QuantizeLinear")
    assert not nodes(proto, "Concat")
    with torch.no_grad():
        expected = model(x)
    np.testing.assert_allclose(run(proto, x), expected, rtol=1e-5, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_an_opset_can_be_chosen(opset: int, tmp_path: Path) -> None:
    model, x = calibrated(axis=0)
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", opset_version=opset, **NAMES)))
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [opset]
    with torch.no_grad():
        np.testing.assert_allclose(run(proto, x), model(x), atol=1e-2, rtol=1e-2)


def test_a_size_can_vary(tmp_path: Path) -> None:
    model, x = calibrated()
    batch = ({0: torch.export.Dim("batch")},)
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "m.onnx", dynamic_shapes=batch, **NAMES)))
    assert run(proto, x[:5]).shape == (5, 16)


def test_e4m3_is_written_in_tensorrts_operators(tmp_path: Path) -> None:
    model, x = calibrated(num_bits=(4, 3))
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", **NAMES)))
    assert len(nodes(proto, "TRT_FP8QuantizeLinear")) == 6


def test_a_model_in_training_stays_so_and_is_exported_as_in_eval(tmp_path: Path) -> None:
    model, x = calibrated()
    model = nn.Sequential(model, nn.Dropout(0.5)).train()
    proto = onnx.load(str(export_onnx(model, x, tmp_path / "model.onnx", **NAMES)))
    assert all(module.training for module in model.modules())
    assert not nodes(proto, "Dropout")


def test_a_failed_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    model, x = calibrated()
    path = export_onnx(model, x, tmp_path / "model.onnx")
    before = path.read_bytes()
    del model[4]._input_quantizer._amax
    with pytest.raises(ExportError, match="has no amax") as caught:
        export_onnx(model, x, path)
    assert caught.value.layer == "4._input_quantizer"
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_what_torch_cannot_export_is_said_in_one_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no such shape")

    with pytest.raises(ExportError, match="ValueError: no such shape") as caught:
        export_onnx(Odd(), torch.randn(2), tmp_path / "model.onnx")
    assert len(str(caught.value).splitlines()) == 1


def _weight_codes(proto: onnx.ModelProto) -> str:
    """Return the name of the first layer's codes."""
    held = constants(proto)
    return next(node.input[0] for node in nodes(proto, "DequantizeLinear") if node.input[0] in held)
