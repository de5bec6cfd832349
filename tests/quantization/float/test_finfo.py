"""The private names that code written for AIMET imports."""

import torch

from fxquant.quantization.float import FloatEncoding, FloatQuantizeDequantize
from fxquant.quantization.float._finfo import _finfo, _float8_e4m3fn
from fxquant.quantization.float.float_type import FLOAT4_E2M1, FLOAT8_E4M3FN
from fxquant.quantization.float.quantizer import _fake_cast_to_ieee_float


def test_they_stand_for_float_types() -> None:
    assert _finfo(2, 1, True, False) == FLOAT4_E2M1
    assert _float8_e4m3fn == FLOAT8_E4M3FN
    assert _fake_cast_to_ieee_float(torch.tensor([7.0, 2.6]), FLOAT4_E2M1).tolist() == [6.0, 3.0]


def test_quantizers_and_encodings_have_them() -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.float8_e5m2)
    quantizer._finfo = _finfo(4, 3, True, False)
    assert quantizer._finfo == quantizer.float_type == _float8_e4m3fn
    assert FloatEncoding(3, 4, True, False, torch.ones(()))._finfo == _float8_e4m3fn
