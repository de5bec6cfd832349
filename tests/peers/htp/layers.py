"""Quantized layers with a weight: what HTP's rule, exact arithmetic and an ONNX model make of them.

Codes and levels are whole numbers in float64 tensors, scales float32.
"""

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from fxquant.arithmetic.htp import Generation, requantize_htp, requantize_htp_vector
from fxquant.arithmetic.htp_bias import kept_bias
from fxquant.quantization import AffineEncoding

STEPS = 255  # of the grid of activations


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer between two grids of uint8.

    Attributes:
        op: ONNX operator: Conv, ConvTranspose, Gemm or MatMul.
        weight: Levels, in the operator's layout; for MatMul [in, out].
        bias: Levels at the scale of the accumulator, [out]; None without.
        weight_scale: [out], or one number.
        input_zero: Zero point of the input.
        output_zero: Zero point of the output.
        attributes: Of the operator.
        highest: Upper bound of a Clip from 0 behind the operator; None for none.
    """

    op: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    input_scale: torch.Tensor
    weight_scale: torch.Tensor
    output_scale: torch.Tensor
    input_zero: int
    output_zero: int
    attributes: dict[str, int | list[int]] = field(default_factory=dict)
    highest: float | None = None

    @property
    def output(self) -> AffineEncoding:
        """The grid of the output."""
        return AffineEncoding(self.output_scale, torch.tensor(-float(self.output_zero)), 0, STEPS)

    @property
    def is_depthwise_by_two(self) -> bool:
        """Whether the vector unit computes it: one filter a channel, moved by 2 along both axes."""
        groups, strides = self.attributes.get("group", 1), self.attributes.get("strides")
        return groups == len(self.weight) and groups != 1 and strides == [2, 2]

    def sums(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the exact sums of products for codes of the input, without the bias."""
        levels = codes.double() - self.input_zero
        if self.op in ("Gemm", "MatMul"):
            return levels @ (self.weight if self.op == "MatMul" else self.weight.T)
        strides, pads = self.attributes.get("strides", 1), self.attributes.get("pads", [0])
        padding = pads[0] if isinstance(pads, list) else pads
        if self.op == "ConvTranspose":
            return F.conv_transpose2d(levels, self.weight, None, strides, padding)  # type: ignore[arg-type]
        dilations, groups = self.attributes.get("dilations", 1), self.attributes.get("group", 1)
        return F.conv2d(levels, self.weight, None, strides, padding, dilations, groups)  # type: ignore[arg-type]

    def codes_of(self, sums: torch.Tensor, generation: Generation | None) -> torch.Tensor:
        """Return the codes of the output: HTP's of a generation, or those of exact arithmetic."""
        scale, bias, output = self.weight_scale, self.bias, self.output
        is_kept = generation is Generation.V73 and not self.is_depthwise_by_two
        if bias is not None:
            bias = kept_bias(bias, self.input_scale, scale) if is_kept else bias
            sums = sums + self._along_channels(bias, sums)
        scale = self._along_channels(scale, sums)
        if generation is None:
            real = sums * (self.input_scale.double() * scale.double() / self.output_scale.double())
            return (real.round() + self.output_zero).clamp(0, STEPS)
        if self.is_depthwise_by_two:
            levels = requantize_htp_vector(sums, self.input_scale, scale, output)
        else:
            levels = requantize_htp(sums, self.input_scale, scale, output, generation=generation)
        return (levels + self.output_zero).double()

    def _along_channels(self, values: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        is_spatial = self.op in ("Conv", "ConvTranspose")
        return values.reshape(-1, *[1] * (sums.dim() - 2)) if is_spatial else values


def random_layer(
    generator: torch.Generator,
    shape: list[int],
    weight_shape: list[int],
    *,
    op: str = "Conv",
    has_bias: bool = True,
    is_per_channel: bool = True,
    **attributes: int | list[int],
) -> tuple[torch.Tensor, Layer]:
    """Return random codes of a shape and a random layer whose outputs fill their grid.

    Args:
        generator: Source of randomness.
        shape: Of the input.
        weight_shape: Of the weight, in the operator's layout.
        op: ONNX operator.
        has_bias: Whether it has a bias.
        is_per_channel: Whether its weight has a scale per output channel.
        **attributes: Of the operator.
    """

    def uniform(low: float, high: float, *size: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator)

    channels = weight_shape[1 if op in ("MatMul", "ConvTranspose") else 0]
    codes = torch.randint(0, STEPS + 1, shape, generator=generator).double()
    layer = Layer(
        op=op,
        weight=torch.randint(-127, 128, weight_shape, generator=generator).double(),
        bias=None,
        input_scale=uniform(0.005, 0.05, 1)[0],
        weight_scale=uniform(0.0005, 0.01, channels) if is_per_channel else uniform(0.0005, 0.01, 1)[0],
        output_scale=torch.tensor(1.0),
        input_zero=int(uniform(0, STEPS, 1)),
        output_zero=int(uniform(0, STEPS, 1)),
        attributes=attributes,
    )
    sums = layer.sums(codes)
    deviation = (sums * layer.input_scale * layer._along_channels(layer.weight_scale, sums)).std()
    bias = torch.randn(channels, generator=generator) * deviation / (layer.input_scale * layer.weight_scale)
    parts = {
        "bias": bias.double().round() if has_bias else None,
        "output_scale": (4 * deviation / STEPS).float(),
    }
    return codes, Layer(**{**layer.__dict__, **parts})
