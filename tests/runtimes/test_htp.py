import gc
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from fxquant.errors import BatchError, OptionError, RefusalError
from fxquant.runtimes import Fallback, FloatOp, Htp, export_context
from fxquant.runtimes.qnn_process import QnnProcess
from tests.runtimes import files

pytestmark = pytest.mark.htp

FEEDS = {"x": np.linspace(-8, 8, 8, dtype=np.float32).reshape(2, 4), "y": files.ZEROS}


def run(text, folder, **options):
    runtime = Htp(files.write(text, folder), **options)
    return runtime, runtime.run({name: FEEDS[name] for name in runtime.inputs})


def test_quantized_file_runs_on_the_htp_alone(tmp_path):
    runtime, given = run(files.SUM, tmp_path, allows_fallback=False)
    assert (runtime.fallbacks, runtime.float_ops) == ((), ())
    assert "SM8650 (Snapdragon 8 Gen 3), HTP V75" in runtime.device
    np.testing.assert_allclose(given["z_dq"], FEEDS["x"], atol=0.125)  # one step


def test_file_with_an_open_batch_runs_at_any_size(tmp_path):
    runtime = Htp(files.write(files.SUM, tmp_path))
    for rows in (1, 3):
        feeds = {name: np.ones((rows, 4), np.float32) for name in "xy"}
        assert runtime.run(feeds)["z_dq"].tolist() == [[2.0] * 4] * rows


def test_sizes_that_the_file_does_not_have_are_refused(tmp_path):
    runtime = Htp(files.write(files.SUM, tmp_path))
    with pytest.raises(BatchError, match="5 should be 4"):
        runtime.run({name: np.ones((1, 5), np.float32) for name in "xy"})


def test_node_that_the_htp_does_not_take_is_listed_first_of_those_left(tmp_path):
    runtime, _ = run(files.ERROR_FUNCTION, tmp_path)
    assert runtime.fallbacks[0] == Fallback(op="Erf", node="z")
    assert {node.op for node in runtime.fallbacks[1:]} == {"QuantizeLinear", "DequantizeLinear"}


def test_without_fallback_such_a_file_is_refused_when_it_is_loaded(tmp_path):
    with pytest.raises(RefusalError, match=r"refuses .*allows_fallback=True"):
        Htp(files.write(files.ERROR_FUNCTION, tmp_path), allows_fallback=False)


def test_op_that_is_quantized_in_the_file_but_runs_in_float_is_found(tmp_path):
    runtime, _ = run(files.SUM_OF_TWO_TYPES, tmp_path, allows_fallback=False)
    assert runtime.float_ops == (
        FloatOp(op="ElementWiseAdd", nodes=("z",), precision="f16", is_quantized=True),
    )


def test_chip_without_float16_is_simulated_in_float32(tmp_path):
    runtime, _ = run(files.SUM_OF_TWO_TYPES, tmp_path, soc="sm8350")
    assert [op.precision for op in runtime.float_ops] == ["f32"]


def test_exposed_codes_are_those_of_the_outputs(tmp_path):
    _, deployed = run(files.SUM, tmp_path)
    _, exposed = run(files.SUM, tmp_path, exposes_codes=True)
    assert np.array_equal(deployed["z_dq"], exposed["z_dq"])
    assert np.array_equal(exposed["z_dq"], (exposed["z_q"].astype(np.float32) - 128) * 0.125)


@pytest.mark.slow
def test_stdout_stays_clean(tmp_path):
    # the backend writes a line where it is loaded, once in a process
    code = (
        "import sys, pathlib; from fxquant.runtimes import Htp; Htp(pathlib.Path(sys.argv[1])); print('end')"
    )
    path = files.write(files.ERROR_FUNCTION, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "end\n"


@pytest.mark.parametrize(("soc", "mark"), [("sm8650", b"SM8650"), ("sm8550", b"SM8550")])
def test_compiled_file_is_for_the_chip_and_gives_the_same(soc, mark, tmp_path):
    path = files.write(files.SUM, tmp_path)
    compiled = export_context(path, tmp_path / "out" / "sum_context.onnx", soc=soc, batch_size=2)
    assert mark in compiled.binary.read_bytes()
    assert [node.op_type for node in onnx.load(compiled.onnx).graph.node] == ["EPContext"]
    assert np.array_equal(Htp(compiled.onnx).run(FEEDS)["z_dq"], Htp(path).run(FEEDS)["z_dq"])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "sum_context.onnx",
        "sum_context_qnn.bin",
    ]


def test_file_that_does_not_compile_leaves_what_was_there(tmp_path):
    out = tmp_path / "context.onnx"
    out.write_text("before")
    with pytest.raises(RefusalError, match="does not take all of"):
        export_context(files.write(files.ERROR_FUNCTION, tmp_path), out)
    assert out.read_text() == "before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["context.onnx", "model.onnx"]


def test_context_for_an_unknown_chip_is_refused(tmp_path):
    with pytest.raises(OptionError, match="no chip 'sm1'"):
        export_context(files.write(files.SUM, tmp_path), tmp_path / "context.onnx", soc="sm1")


def test_backend_that_ends_its_process_is_an_error_and_the_next_file_runs(tmp_path):
    runtime, _ = run(files.SUM, tmp_path)
    worker = QnnProcess.shared()
    worker._process.kill()
    with pytest.raises(BatchError, match="the QNN backend ended its process"):
        runtime.run(FEEDS)
    assert QnnProcess.shared() is not worker
    _, given = run(files.SUM, tmp_path)
    np.testing.assert_allclose(given["z_dq"], FEEDS["x"], atol=0.125)  # one step


def test_sessions_that_are_gone_are_closed_with_the_next_request(tmp_path):
    run(files.SUM, tmp_path)
    gc.collect()
    assert QnnProcess.shared()._forgotten
    run(files.SUM, tmp_path, soc="sm8550")
    gc.collect()
    assert len(QnnProcess.shared()._forgotten) == 1
