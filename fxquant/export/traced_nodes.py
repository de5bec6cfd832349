"""QuantizeLinear and DequantizeLinear of a model that quantizes itself while torch.onnx.export traces it.

fxquant's own exporter writes quantizers into a finished graph (``write_quantizers``). A model of modules that
simulate quantization in their forwards is exported by its user instead, with ``torch.onnx.export``: then each
of them puts its nodes into the trace. Both exporters of torch take them, ``dynamo=True``, which traces with
torch.export, and ``dynamo=False``, TorchScript.
"""

from dataclasses import dataclass
from typing import Any

import torch

from fxquant.errors import ExportError

_E4M3_QUANTIZE, _E4M3_DEQUANTIZE = "trt::TRT_FP8QuantizeLinear", "trt::TRT_FP8DequantizeLinear"
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_OPSET = 13  # the first whose quantizers have an axis


@dataclass(frozen=True, kw_only=True)
class TracedNodes:
    """The numbers of the two nodes.

    Attributes:
        scale: float32, not 0: [] for one per tensor, or [channels].
        codes: torch.int8, torch.uint8, or torch.float8_e4m3fn. The last becomes the operators of TensorRT's
            domain that pytorch-quantization writes, which exist in every opset, with one scale per tensor;
            standard ONNX has such codes from opset 19 on.
        axis: Axis of the channels; None for one scale.
    """

    scale: torch.Tensor
    codes: torch.dtype
    axis: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether codes are floats."""
        return self.codes.is_floating_point

    @property
    def zero_point(self) -> torch.Tensor:
        """The codes of real zero, of the shape of scale."""
        return torch.zeros_like(self.scale, dtype=self.codes)

    def put(self, inputs: torch.Tensor) -> torch.Tensor:
        """Put the nodes into the trace, behind inputs; what is not float32 is cast to it, and back.

        Returns:
            What stands for their result. The trace alone can use it: its values are those of the inputs.

        Raises:
            ExportError: If this torch has no way to do that.
        """
        wide = inputs.to(torch.float32)
        if torch.compiler.is_exporting():
            return self._symbolic(wide).to(inputs.dtype)
        traced: torch.Tensor = _Traced.apply(wide, self)  # type: ignore[no-untyped-call]  # torch is untyped here
        return traced.to(inputs.dtype)

    def _symbolic(self, wide: torch.Tensor) -> torch.Tensor:
        operators: Any = getattr(torch.onnx, "ops", None)
        if operators is None:
            raise ExportError(
                f"torch {torch.__version__} puts no QuantizeLinear into what it traces with torch.export.",
                remedy="Use torch 2.8 or later, or pass dynamo=False.",
            )
        if self.is_float:
            back = {"dtype": torch.float32, "shape": wide.shape, "version": 1}
            codes = operators.symbolic(_E4M3_QUANTIZE, (wide, self.scale), **(back | {"dtype": torch.uint8}))
            outputs: torch.Tensor = operators.symbolic(_E4M3_DEQUANTIZE, (codes, self.scale), **back)
            return outputs
        numbers, attributes = (self.scale, self.zero_point), {} if self.axis is None else {"axis": self.axis}
        form = {"attrs": attributes, "shape": wide.shape, "version": _OPSET}
        codes = operators.symbolic(_QUANTIZE, (wide, *numbers), dtype=self.codes, **form)
        outputs = operators.symbolic(_DEQUANTIZE, (codes, *numbers), dtype=torch.float32, **form)
        return outputs


class _Traced(torch.autograd.Function):
    """The form that TorchScript traces: a function that says what its nodes are."""

    @staticmethod
    def forward(ctx: Any, wide: torch.Tensor, nodes: TracedNodes) -> torch.Tensor:
        return wide.clone()

    @staticmethod
    def symbolic(g: Any, wide: Any, nodes: TracedNodes) -> Any:
        scale = g.op("Constant", value_t=nodes.scale)
        if nodes.is_float:
            codes = g.op(_E4M3_QUANTIZE, wide, scale)
            return g.op(_E4M3_DEQUANTIZE, codes, scale).setType(wide.type())
        numbers = scale, g.op("Constant", value_t=nodes.zero_point)
        attributes = {} if nodes.axis is None else {"axis_i": nodes.axis}
        codes = g.op(_QUANTIZE, wide, *numbers, **attributes)
        return g.op(_DEQUANTIZE, codes, *numbers, **attributes).setType(wide.type())
