import json

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from fxquant.cli import main
from tests import digits
from tests.lint import tensorrt_acceptance_cases as acceptance
from tests.runtimes import files

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
    saved = torch.load(tmp_path / "out" / "model.pt", weights_only=False)
    assert saved(digits.split().test_images[:2]).shape == (2, 10)


@pytest.mark.slow
def test_quantize_takes_ranges_from_an_encodings_file(batches, tmp_path):
    where = ("quantize", MODEL, batches, "--target", "onnxruntime", "--encodings-version", "2.0.0", "--out")
    first = invoke(*where, tmp_path / "1")
    assert first.exit_code == 0, first.output
    second = invoke(*where, tmp_path / "2", "--encodings", tmp_path / "1" / "model.encodings")
    assert second.exit_code == 0, second.output
    files = [(tmp_path / folder / "model.encodings").read_bytes() for folder in ("1", "2")]
    assert files[0] == files[1]


def test_encodings_file_that_does_not_fit_is_one_line(batches, tmp_path):
    (tmp_path / "file").write_text("{}")
    result = invoke("quantize", MODEL, batches, "--encodings", tmp_path / "file")
    assert result.exit_code == 1
    assert "cannot be used: its version is None" in result.output
    assert "Traceback" not in result.output


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


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, x=digits.split().test_images[:8].numpy())
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(digits.quantized("onnxruntime"), path)
    return path


def test_verify_holds_a_file_against_its_simulation(model, images):
    result = invoke("verify", model, digits.files("onnxruntime").onnx, images, "--rows", "2")
    assert result.exit_code == 0, result.output
    assert "26 quantized tensors, 0 not in the file" in result.output
    assert len(result.output.split("onnxruntime (CPU")[0].splitlines()) == 3  # the head and two rows


def test_verify_without_a_model_compares_two_runtimes(images):
    result = invoke("verify", digits.files("onnxruntime").onnx, images, "--rows", "-1")
    assert result.exit_code == 0, result.output
    assert "against onnxruntime-exact" in result.output
    assert "block2.gate.hard_sigmoid" in result.output


def test_verify_fails_where_an_op_departs(tmp_path):
    pytest.importorskip("openvino")
    images = np.random.default_rng(0).standard_normal((2, 1, 4, 4)).astype(np.float32) * 3
    np.savez(tmp_path / "images.npz", x=images)
    path = files.write(files.PADDED_POOL, tmp_path)
    result = invoke("verify", path, tmp_path / "images.npz", "--runtime", "openvino")
    assert result.exit_code == 1
    assert "first departure of 1: AveragePool 'z'" in result.output


@pytest.mark.htp
def test_strict_verify_fails_on_a_float_island(tmp_path):
    np.savez(tmp_path / "batches.npz", x=files.ZEROS, y=files.ZEROS)
    arguments = files.write(files.SUM_OF_TWO_TYPES, tmp_path), tmp_path / "batches.npz", "--runtime", "htp"
    assert invoke("verify", *arguments).exit_code == 0
    assert invoke("verify", *arguments, "--strict").exit_code == 1


@pytest.mark.htp
def test_compile_writes_a_context_for_the_chip(tmp_path):
    out = tmp_path / "context.onnx"
    result = invoke("compile", files.write(files.SUM, tmp_path), out, "--soc", "sm8550")
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(out), str(tmp_path / "context_qnn.bin")]


def test_verify_with_too_few_paths_says_what_to_give(images):
    result = invoke("verify", images)
    assert result.exit_code == 2
    assert "Give FILE and BATCHES" in result.output


def test_verify_of_what_is_no_model_is_one_line(images):
    result = invoke("verify", images, digits.files("onnxruntime").onnx, images)
    assert result.exit_code == 1
    assert "does not hold a model" in result.output


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


@pytest.mark.slow
def test_double_arrays_quantize_a_float_model(tmp_path):
    np.savez(tmp_path / "batches.npz", x=np.random.rand(4, 1, 32, 32), label=np.arange(4))
    result = invoke("quantize", MODEL, tmp_path / "batches.npz", "--out", tmp_path)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", ["array.npy", "junk.npz"])
def test_data_that_is_no_npz_is_one_line_too(name, tmp_path):
    path = tmp_path / name
    np.save(path.open("wb"), np.zeros(3)) if name.endswith("npy") else path.write_text("junk")
    result = invoke("quantize", MODEL, path)
    assert result.exit_code == 1
    assert "does not hold batches" in result.output


def test_lint_prints_findings_and_fails_on_errors(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(acceptance.bias_int32(), str(path))
    result = invoke("lint", path)
    assert result.exit_code == 1
    assert "A09" in result.output
    assert "tensorrt: 1 error" in result.output


def test_lint_fixes_and_then_succeeds(tmp_path):
    path, fixed = tmp_path / "model.onnx", tmp_path / "fixed.onnx"
    onnx.save(acceptance.bias_int32(), str(path))
    result = invoke("lint", path, "--fix", fixed)
    assert result.exit_code == 0, result.output
    assert f"1 fixed in {fixed}" in result.output.replace("\n", "")


def test_lint_speaks_json_and_leaves_out_what_is_ignored(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(acceptance.bias_int32(), str(path))
    result = invoke("lint", path, "--json", "--ignore", "A09,P22")
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert report["target"] == "tensorrt"
    assert "A09" not in {finding["rule"] for finding in report["findings"]}


def test_lint_of_what_is_no_model_is_one_line(tmp_path):
    path = tmp_path / "junk.onnx"
    path.write_text("junk")
    result = invoke("lint", path, "--target", "qualcomm")
    assert result.exit_code == 1
    assert "cannot be read as an ONNX model" in result.output
    assert "Traceback" not in result.output
