import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fxquant.errors import ExportError
from fxquant.files.atomic import atomic_files, write_atomically
from fxquant.files.staging import PREFIX
from fxquant.runtimes import OnnxRuntime

resource = pytest.importorskip("resource", reason="limits files and kills processes as POSIX does")

ROOT = Path(__file__).parents[2]
ENDLESS_EXPORT = """
import itertools, sys, torch, fxquant
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
batches = torch.rand(4, 4), torch.rand(4, 4) * 9
quantized = [fxquant.quantize(model, [batch], target="onnxruntime").model for batch in batches]
fxquant.export(quantized[0], sys.argv[1])
print("ready", flush=True)
for count in itertools.count(1):
    fxquant.export(quantized[count % 2], sys.argv[1])
"""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def put(folder, **contents):
    with atomic_files(folder) as files:
        for name, text in contents.items():
            files.path(name).write_text(text, encoding="utf-8")


def texts_in(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_files_are_in_place_after_the_context_and_not_before(tmp_path):
    with atomic_files(tmp_path / "new" / "folder") as files:
        files.path("one").write_text("1", encoding="utf-8")
        assert not (tmp_path / "new" / "folder" / "one").exists()
        files.path("two").write_text("2", encoding="utf-8")
    assert texts_in(tmp_path / "new" / "folder") == {"one": "1", "two": "2"}


def test_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "made", lambda path: path.write_text("") and None)
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError], ids=lambda error: error.__name__)
def test_failing_writer_leaves_the_earlier_files(error, tmp_path):
    put(tmp_path, one="old", two="old")

    def write_one_and_fail():
        with atomic_files(tmp_path) as files:
            files.path("one").write_text("new", encoding="utf-8")
            raise error

    with pytest.raises(ExportError if error is OSError else error):
        write_one_and_fail()
    assert texts_in(tmp_path) == {"one": "old", "two": "old"}


def test_file_that_was_not_written_is_an_error_and_nothing_changes(tmp_path):
    put(tmp_path, one="old")

    def write_one_of_two():
        with atomic_files(tmp_path) as files:
            files.path("one").write_text("new", encoding="utf-8")
            files.path("two")

    with pytest.raises(ExportError, match="two' was not written"):
        write_one_of_two()
    assert texts_in(tmp_path) == {"one": "old"}


def failing_at(place):
    """Return a Path.replace that fails when a new file is moved to a place."""
    replace = Path.replace

    def replace_or_fail(path, target):
        if Path(target) == place and path.parent.name.startswith(PREFIX):
            raise OSError(28, "No space left on device")
        return replace(path, target)

    return replace_or_fail


@pytest.mark.parametrize("failing", ["one", "two", "three"])
@pytest.mark.parametrize("has_links", [True, False], ids=["links", "copies"])
def test_failing_rename_puts_back_every_earlier_file(failing, has_links, tmp_path, monkeypatch):
    put(tmp_path, one="old", three="old")
    monkeypatch.setattr(Path, "replace", failing_at(tmp_path / failing))
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    with pytest.raises(ExportError, match="No space left on device"):
        put(tmp_path, one="new", two="new", three="new")
    assert texts_in(tmp_path) == {"one": "old", "three": "old"}


def test_folder_in_the_place_of_a_file_is_an_error_and_nothing_changes(tmp_path):
    put(tmp_path, one="old")
    (tmp_path / "two").mkdir()
    with pytest.raises(ExportError, match="Cannot write into"):
        put(tmp_path, one="new", two="new")
    assert (tmp_path / "one").read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["one", "two"]


def test_name_by_contents_follows_the_contents_and_old_ones_are_removed(tmp_path):
    names = []
    for text in ("a", "b", "b"):
        with atomic_files(tmp_path) as files:
            files.path("model.onnx.data").write_text(text, encoding="utf-8")
            names.append(files.name_by_contents("model.onnx.data"))
            files.path("model.onnx").write_text(names[-1], encoding="utf-8")
        assert names_in(tmp_path) == sorted(["model.onnx", names[-1]])
    assert names[0] != names[1] == names[2]
    assert names[0] == "model.onnx.ca978112ca1bbdca.data"  # sha256 of "a"


def put_onnx(folder, number):
    """Write a model that adds a constant of a number, in a file of its own, to its input."""
    value = onnx.numpy_helper.from_array(np.full((100, 4), number, np.float32), "constant")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [100, 4]) for name in "xy")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "constant"], ["y"])], "g", [x], [y], [value]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    with atomic_files(folder) as files:
        data = files.path("model.onnx.data").name  # first: the model names it
        path = files.path("model.onnx")
        onnx.save_model(model, path, save_as_external_data=True, location=data, size_threshold=0)
        named = files.name_by_contents(data)
        for field in model.graph.initializer[0].external_data:
            field.value = named if field.key == "location" else field.value
        onnx.save_model(model, path)
        onnx.checker.check_model(path, full_check=True)
    return named


def run_onnx(path):
    session = OnnxRuntime(path)
    return session.run({session.inputs[0]: np.zeros((100, 4), np.float32)})[session.outputs[0]]


def test_model_reads_the_data_that_was_written_with_it(tmp_path, monkeypatch):
    first = put_onnx(tmp_path, 1.0)
    assert (run_onnx(tmp_path / "model.onnx") == 1.0).all()
    monkeypatch.setattr(Path, "replace", failing_at(tmp_path / "model.onnx"))
    with pytest.raises(ExportError, match="No space left on device"):
        put_onnx(tmp_path, 2.0)
    assert (run_onnx(tmp_path / "model.onnx") == 1.0).all()
    assert names_in(tmp_path) == sorted([first, "model.onnx"])
    monkeypatch.undo()
    second = put_onnx(tmp_path, 2.0)
    assert (run_onnx(tmp_path / "model.onnx") == 2.0).all()
    assert names_in(tmp_path) == sorted([second, "model.onnx"])


def test_failure_keeps_the_data_that_the_earlier_file_names(tmp_path):
    with atomic_files(tmp_path) as files:
        files.path("model.onnx.data").write_text("old", encoding="utf-8")
        old = files.name_by_contents("model.onnx.data")

    def write_new_data_and_no_model():
        with atomic_files(tmp_path) as files:
            files.path("model.onnx.data").write_text("new", encoding="utf-8")
            files.name_by_contents("model.onnx.data")
            files.path("model.onnx")

    with pytest.raises(ExportError, match="was not written"):
        write_new_data_and_no_model()
    assert names_in(tmp_path) == [old]


def test_retired_files_go_and_others_of_like_names_stay(tmp_path):
    kept = ["model.onnx.data", "model.onnx.0123.data", "other.onnx.0123456789abcdef.data"]
    for name in ["model.onnx.0123456789abcdef.data", *kept]:
        (tmp_path / name).write_text("")
    with atomic_files(tmp_path) as files:
        files.retire("model.onnx.data")
    assert names_in(tmp_path) == sorted(kept)


def test_staging_folder_of_a_living_writer_is_left_alone(tmp_path):
    with atomic_files(tmp_path) as files:
        files.path("one").write_text("1", encoding="utf-8")
        put(tmp_path, two="2")
    assert texts_in(tmp_path) == {"one": "1", "two": "2"}


def test_staging_folder_of_a_killed_writer_is_removed_by_the_next(tmp_path):
    (tmp_path / f"{PREFIX}abandoned").mkdir()
    (tmp_path / f"{PREFIX}abandoned" / "half").write_text("")
    put(tmp_path, one="1")
    assert names_in(tmp_path) == ["one"]


def test_disk_quota_leaves_the_earlier_files(tmp_path):
    put(tmp_path, one="old", two="old")

    def write_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with pytest.raises(ExportError, match="File too large"):
            put(tmp_path, one="new", two="x" * 10_000)

    assert exit_code(forked(write_too_much)) == 0
    assert texts_in(tmp_path) == {"one": "old", "two": "old"}


@pytest.mark.slow
def test_writer_killed_at_any_moment_leaves_files_that_fit_each_other(tmp_path):
    def write_forever(has_written):
        for count in itertools.count():
            with atomic_files(tmp_path) as files:
                files.path("model.data").write_text(f"{count} " * 20_000, encoding="utf-8")
                name = files.name_by_contents("model.data")
                files.path("model").write_text(json.dumps({"data": name, "count": count}), encoding="utf-8")
            os.write(has_written, b"1")

    generator = random.Random(0)
    for _ in range(60):
        written, has_written = os.pipe()
        child = forked(lambda: write_forever(has_written))  # noqa: B023  # used at once
        os.read(written, 1)
        time.sleep(generator.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        os.close(written)
        os.close(has_written)
        model = json.loads((tmp_path / "model").read_text(encoding="utf-8"))
        data = (tmp_path / model["data"]).read_text(encoding="utf-8")
        assert data == f"{model['count']} " * 20_000
    put(tmp_path, other="")
    assert not any(name.startswith(PREFIX) for name in names_in(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_export_killed_at_any_moment_leaves_a_model_that_runs(seed, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_EXPORT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(random.Random(seed).uniform(0.0, 3.0))
    process.kill()
    process.communicate()
    session = OnnxRuntime(tmp_path / "model.onnx")
    outputs = session.run({session.inputs[0]: torch.rand(3, 4).numpy()})
    assert outputs[session.outputs[0]].shape == (3, 2)
    assert json.loads((tmp_path / "model.encodings").read_text(encoding="utf-8"))["version"] == "1.0.0"


def forked(do):
    """Run a function in a copy of this process; return the process's number."""
    child = os.fork()
    if child == 0:
        try:
            do()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def exit_code(child):
    """Wait for a process; return its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
