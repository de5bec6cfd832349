"""One op between DequantizeLinear and QuantizeLinear, run in ONNX Runtime, which fuses them to one kernel."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper

from fxquant.arithmetic import Leveled
from fxquant.quantization import AffineEncoding
from fxquant.runtimes import OnnxRuntime

UINT8 = (0, 255)
INT8 = (-128, 127)


def grid(scale: float, zero_point: int, codes: tuple[int, int] = UINT8) -> AffineEncoding:
    return AffineEncoding(torch.tensor(scale), torch.tensor(-float(zero_point)), *codes, False)


def random_grid(generator: torch.Generator, codes: tuple[int, int] = UINT8) -> AffineEncoding:
    """Return a grid at random; every other one has a scale that makes exact ties likely."""
    low, high = codes
    zero_point = int(torch.randint(low, high + 1, (), generator=generator))
    if torch.rand((), generator=generator) < 0.5:
        exponent = int(torch.randint(-6, -2, (), generator=generator))
        factor = (1.0, 3.0, 5.0, 1.5)[int(torch.randint(4, (), generator=generator))]
        return grid(factor * 2.0**exponent, zero_point, codes)
    return grid(float(torch.rand((), generator=generator)) * 0.1 + 0.001, zero_point, codes)


def leveled(codes: torch.Tensor, encoding: AffineEncoding) -> Leveled:
    return Leveled(real=encoding.dequantize(codes), encoding=encoding)


def fused(
    folder: Path,
    op: str,
    operands: Sequence[tuple[torch.Tensor, AffineEncoding]],
    output: AffineEncoding | None,
    *,
    constants: int = 0,
    attributes: Mapping[str, object] | None = None,
) -> torch.Tensor:
    """Return the codes, or real values where output is None, that ONNX Runtime gives.

    Args:
        folder: Where the file goes.
        op: An ONNX operator.
        operands: Codes and grids; their integer type follows from the grid.
        output: Grid of the output; None to leave it in float.
        constants: How many of the last operands are stored in the file.
        attributes: Of the operator.
    """
    nodes, inputs, initializers, feeds = [], [], {}, {}
    for index, (codes, encoding) in enumerate(operands):
        name, axis = f"x{index}", encoding.channel_axis or 0
        array = codes.to(encoding.dtype).numpy()
        if index >= len(operands) - constants:
            initializers[name] = array
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
            feeds[name] = array
        nodes.append(_linear("DequantizeLinear", name, f"{name}_real", encoding, initializers, axis))
    reals = [f"{name}_real" for name in (f"x{index}" for index in range(len(operands)))]
    nodes.append(helper.make_node(op, reals, ["y_real"], **(attributes or {})))
    result = "y_real"
    if output is not None:
        nodes.append(_linear("QuantizeLinear", "y_real", "y", output, initializers, 0))
        result = "y"
    kind = onnx.TensorProto.FLOAT if output is None else (2 if output.qmin == 0 else 3)
    graph = helper.make_graph(
        nodes,
        "kernel",
        inputs,
        [helper.make_tensor_value_info(result, kind, None)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(folder / "kernel.onnx"))
    given = torch.from_numpy(OnnxRuntime(folder / "kernel.onnx", exposes_codes=True).run(feeds)[result])
    return given if output is None else given.float()


def _linear(
    kind: str, source: str, result: str, encoding: AffineEncoding, initializers: dict[str, object], axis: int
) -> onnx.NodeProto:
    shape = () if encoding.channel_axis is None else (-1,)
    initializers[f"{result}_scale"] = encoding.scale.reshape(shape).numpy()
    names = [source, f"{result}_scale"]
    if encoding.dtype is not torch.int32:
        zero_point = encoding.zero_point.to(encoding.dtype).reshape(shape).numpy()
        initializers[f"{result}_zero_point"] = zero_point
        names.append(f"{result}_zero_point")
    return helper.make_node(kind, names, [result], axis=axis)


def differing(levels: torch.Tensor, output: AffineEncoding, codes: torch.Tensor) -> int:
    """Return how many codes a kernel gave differ from levels that were computed."""
    return int((levels - output.offset != codes).sum())


def random_codes(generator: torch.Generator, *shape: int, codes: tuple[int, int] = UINT8) -> torch.Tensor:
    return torch.randint(codes[0], codes[1] + 1, shape, generator=generator)


def numbers(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Return every pair of 8-bit codes, counted from 0, as two tensors of shape [1, 1, 256, 256]."""
    codes = torch.arange(256)
    first, second = torch.meshgrid(codes, codes, indexing="ij")
    return first[None, None], second[None, None]
