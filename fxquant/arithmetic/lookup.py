"""sigmoid: by a table of 256 codes, as ONNX Runtime's QLinearSigmoid does it."""

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled, saturated
from fxquant.quantization import AffineEncoding

# Coefficients of the rational function that Eigen and MLAS take for the logistic function on [-18, 18], from
# the highest power of x^2 down.
_RANGE = 18.0
_NUMERATOR = (
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
)
_DENOMINATOR = (
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
    9.93151921023180e-01,
)


def sigmoid(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels that QLinearSigmoid gives: ``clamp(rint(logistic(x) / s))`` of each of 256 values."""
    assert output is not None
    (x,) = inputs
    encoding = x.encoding
    codes = torch.arange(encoding.qmin, encoding.qmax + 1, device=x.real.device)
    table = saturated(logistic(encoding.dequantize(codes)).div_(output.scale), output)
    return table[x.codes.sub_(encoding.qmin).to(torch.int32)]


def logistic(x: torch.Tensor) -> torch.Tensor:
    """Return 1 / (1 + exp(-x)) as MLAS approximates it, in float32 with fused multiply-adds."""
    x = x.clamp(-_RANGE, _RANGE)
    square = x * x
    numerator = _polynomial(square, _NUMERATOR) * x
    denominator = _polynomial(square, _DENOMINATOR)
    return (numerator / denominator + 0.5).clamp_(0.0, 1.0)


def _polynomial(x: torch.Tensor, coefficients: tuple[float, ...]) -> torch.Tensor:
    """Return a polynomial by Horner's rule, each step rounded to float32 once."""
    first, *rest = torch.tensor(coefficients, dtype=torch.float32, device=x.device).double()
    total: torch.Tensor = first.expand(x.shape)
    for coefficient in rest:
        total = (total * x.double() + coefficient).float().double()
    return total.float()
