import numpy as np
import pytest
import torch

from fxquant.analysis.code_numbers import code_numbers, numbers_of_runtime, real_values
from fxquant.quantization import AffineEncoding, FloatEncoding

FLOAT8 = FloatEncoding(3, 4, True, False, torch.tensor(0.5))
INT8 = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), -128, 127, True)
BYTES = np.array([code for code in range(256) if code & 0x7F != 0x7F], np.uint8)  # all but NaN


def test_neighbours_of_a_float_type_are_one_step_apart():
    values = torch.from_numpy(BYTES).view(torch.float8_e4m3fn).float()
    order = np.argsort(values.numpy(), kind="stable")
    steps = np.diff(numbers_of_runtime(FLOAT8, BYTES)[order])
    assert sorted(steps) == [0] + [1] * (len(BYTES) - 2)  # the two zeros are one number


@pytest.mark.parametrize(("encoding", "dtype"), [(FLOAT8, np.uint8), (INT8, np.int8)], ids=["float8", "int8"])
def test_simulation_and_runtime_count_alike(encoding, dtype):
    real = torch.linspace(-60.0, 60.0, 241)
    given = encoding.to_codes(real).view(torch.uint8).numpy().view(dtype)
    assert np.array_equal(code_numbers(encoding, real), numbers_of_runtime(encoding, given))
    assert torch.equal(real_values(encoding, given), encoding.quantize_dequantize(real))
