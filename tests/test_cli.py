import numpy as np
import pytest
from click.testing import CliRunner

from fxquant.cli import main
from tests import digits

MODEL = "examples.digits.model:load_trained"


@pytest.fixture
def batches(tmp_path):
    path = tmp_path / "batches.npz"
    np.savez(path, x=digits.split().train_images[:64].numpy())
    return path


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_quantize_writes_files_and_prints_parity(batches, tmp_path):
    result = invoke("quantize", MODEL, batches, "--target", "onnxruntime", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "codes differ, by 1 step(s)" in result.output or "codes differ, by 0 step(s)" in result.output
    assert "float: hard_sigmoid at 'block2.gate'" in result.output
    assert (tmp_path / "out" / "model.onnx").exists()
    assert (tmp_path / "out" / "model.encodings").exists()


def test_quantize_in_integer_arithmetic_prints_no_difference(batches, tmp_path):
    arguments = ("--target", "onnxruntime", "--arithmetic", "integer", "--out", tmp_path / "out")
    result = invoke("quantize", MODEL, batches, *arguments)
    assert "op by op, fed the runtime's inputs: 0 of" in result.output
    assert "end to end: by 0 step(s)" in result.output


def test_run_prints_the_graph_after_a_pass():
    result = invoke("run", MODEL, "--print-after", "fold-batch-norm")
    assert result.exit_code == 0, result.output
    assert "# after fold-batch-norm" in result.output
    assert "BatchNorm2d" not in result.output


def test_run_takes_a_pipeline():
    result = invoke("run", MODEL, "-p", "canonicalize")
    assert "BatchNorm2d[bn](stem)" in result.output


@pytest.mark.parametrize("command", ["passes", "targets", "ops"])
def test_listing_prints_a_table(command):
    result = invoke(command)
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["run", MODEL, "--target", "tensort"], "Did you mean 'tensorrt'", id="target"),
        pytest.param(["run", "nowhere:model"], "There is no 'nowhere:model'", id="module"),
        pytest.param(["run", "json:dumps"], "Name an nn.Module", id="no model"),
        pytest.param(["run", MODEL, "--print-after", "fold"], "fold-batch-norm", id="pass"),
    ],
)
def test_error_is_one_line(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", ["array.npy", "junk.npz"])
def test_data_that_is_no_npz_is_one_line_too(name, tmp_path):
    path = tmp_path / name
    np.save(path.open("wb"), np.zeros(3)) if name.endswith("npy") else path.write_text("junk")
    result = invoke("quantize", MODEL, path)
    assert result.exit_code == 1
    assert "does not hold batches" in result.output
