"""Small models of TensorQuantizers, their export by both exporters of torch, and ONNX Runtime's result."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor

EXPORTERS = {"torch-export": {"dynamo": True, "verbose": False}, "torchscript": {"dynamo": False}}


class Layer(nn.Module):
    """A linear layer with a quantizer on its input and one on its weight."""

    def __init__(self, inputs: int, outputs: int, **options: Any) -> None:
        super().__init__()
        axis = options.pop("axis", None)
        self.linear = nn.Linear(inputs, outputs)
        self._input_quantizer = TensorQuantizer(QuantDescriptor(**options))
        signed = {name: value for name, value in options.items() if name != "unsigned"}
        self._weight_quantizer = TensorQuantizer(QuantDescriptor(axis=axis, **signed))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._weight_quantizer(self.linear.weight)
        return F.linear(self._input_quantizer(x), weight, self.linear.bias)


def network(**options: Any) -> nn.Sequential:
    """Return three layers with random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        Layer(16, 32, **options), nn.ReLU(), Layer(32, 64, **options), nn.ReLU(), Layer(64, 16, **options)
    ).eval()


def quantizers(model: nn.Module) -> Iterable[TensorQuantizer]:
    """Return the quantizers of a model."""
    return [module for module in model.modules() if isinstance(module, TensorQuantizer)]


def calibrate(model: nn.Module, *inputs: torch.Tensor) -> None:
    """Calibrate every quantizer of a model."""
    for quantizer in quantizers(model):
        quantizer.enable_calib()
        quantizer.disable_quant()
    with torch.no_grad():
        model(*inputs)
    for quantizer in quantizers(model):
        quantizer.disable_calib()
        quantizer.load_calib_amax()
        quantizer.enable_quant()


def calibrated(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return a calibrated network and its input: not negative for unsigned quantizers."""
    model = network(**options).to(dtype)
    x = torch.randn(16, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    x = x.abs() if options.get("unsigned") else x
    calibrate(model, x)
    return model, x


def export(model: nn.Module, x: torch.Tensor, exporter: str, **options: Any) -> onnx.ModelProto:
    """Return a model as torch.onnx.export writes it."""
    file = io.BytesIO()
    names = {"input_names": ["input"], "output_names": ["output"]}
    torch.onnx.export(model, (x,), file, **(names | {"opset_version": 17} | EXPORTERS[exporter] | options))
    proto = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(proto)
    return proto


def run(proto: onnx.ModelProto, x: torch.Tensor, *, optimized: bool = True) -> np.ndarray:
    """Return ONNX Runtime's result."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"input": x.numpy()})
    return np.asarray(result)


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the constants of a file by name, wherever they are in it."""
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type == "Constant"]
    held |= {node.output[0]: node.attribute[0].t for node in nodes}
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in held.items()}


def nodes(proto: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    """Return the nodes of a file of one type."""
    return [node for node in proto.graph.node if node.op_type == op_type]
