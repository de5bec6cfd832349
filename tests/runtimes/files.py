"""Small QDQ files written as text, and how a test asks for a runtime that may not be installed."""

import importlib.util

import numpy as np
import onnx
import onnx.parser
import pytest

HEAD = '<ir_version: 10, opset_import: ["": 21]>'

OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs openvino: pip install fxquant[openvino]"
)
RUNTIMES = (
    pytest.param("onnxruntime", id="onnxruntime"),
    pytest.param("openvino", id="openvino", marks=OPENVINO),
    pytest.param("htp", id="htp", marks=pytest.mark.htp),
)

SUM = f"""{HEAD}
sum (float[N, 4] x, float[N, 4] y) => (float[N, 4] z_dq)
<float scale = {{0.125}}, uint8 zero = {{128}}> {{
  x_q = QuantizeLinear(x, scale, zero)
  x_dq = DequantizeLinear(x_q, scale, zero)
  y_q = QuantizeLinear(y, scale, zero)
  y_dq = DequantizeLinear(y_q, scale, zero)
  z = Add(x_dq, y_dq)
  z_q = QuantizeLinear(z, scale, zero)
  z_dq = DequantizeLinear(z_q, scale, zero)
}}"""

# The HTP adds integers of one type only: these it adds in floating point, without a word.
SUM_OF_TWO_TYPES = SUM.replace("uint8 zero = {128}", "uint8 zero = {128}, int8 signed = {0}").replace(
    "x, scale, zero)\n  x_dq = DequantizeLinear(x_q, scale, zero)",
    "x, scale, signed)\n  x_dq = DequantizeLinear(x_q, scale, signed)",
)

# The HTP has no Erf.
ERROR_FUNCTION = f"""{HEAD}
erf (float[2, 4] x) => (float[2, 4] z_dq)
<float scale = {{0.125}}, uint8 zero = {{128}}> {{
  x_q = QuantizeLinear(x, scale, zero)
  x_dq = DequantizeLinear(x_q, scale, zero)
  z = Erf(x_dq)
  z_q = QuantizeLinear(z, scale, zero)
  z_dq = DequantizeLinear(z_q, scale, zero)
}}"""

# OpenVINO counts padding as the integer 0, not as the zero point.
PADDED_POOL = f"""{HEAD}
pool (float[N, 1, 4, 4] x) => (float[N, 1, 4, 4] z_dq)
<float scale = {{0.125}}, uint8 zero = {{128}}> {{
  x_q = QuantizeLinear(x, scale, zero)
  x_dq = DequantizeLinear(x_q, scale, zero)
  z = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x_dq)
  z_q = QuantizeLinear(z, scale, zero)
  z_dq = DequantizeLinear(z_q, scale, zero)
}}"""


ZEROS = np.zeros((2, 4), np.float32)


def write(text, folder):
    """Write a model given as text and return its path."""
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path
