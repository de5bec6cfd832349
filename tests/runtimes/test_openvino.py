import numpy as np
import pytest

from fxquant.errors import BatchError
from fxquant.runtimes import OpenVino
from tests.runtimes import files

pytestmark = files.OPENVINO


def test_integer_op_is_not_among_the_float_ops(tmp_path):
    runtime = OpenVino(files.write(files.SUM, tmp_path))
    given = runtime.run({name: np.ones((3, 4), np.float32) for name in "xy"})
    assert given["z_dq"].tolist() == [[2.0] * 4] * 3
    assert runtime.float_ops == ()


def test_op_that_it_runs_in_float_though_quantized_is_found(tmp_path):
    (op,) = OpenVino(files.write(files.ERROR_FUNCTION, tmp_path)).float_ops
    assert (op.nodes, op.precision, op.is_quantized) == (("z",), "f32", True)


def test_exposed_codes_have_their_own_type(tmp_path):
    runtime = OpenVino(files.write(files.SUM, tmp_path), exposes_codes=True)
    given = runtime.run({name: np.ones((2, 4), np.float32) for name in "xy"})
    assert (given["z_q"].dtype, given["z_q"].tolist()) == (np.uint8, [[144] * 4] * 2)


def test_inputs_that_do_not_fit_are_rejected(tmp_path):
    runtime = OpenVino(files.write(files.SUM, tmp_path))
    with pytest.raises(BatchError, match="OpenVINO rejects inputs of shapes"):
        runtime.run({name: np.ones((2, 5), np.float32) for name in "xy"})
