import sys

import pytest

from fxquant.errors import ExportError, MissingExtraError, OptionError, RefusalError
from fxquant.runtimes import RUNTIMES, ExactOnnxRuntime, get_runtime, get_soc, open_file
from tests.runtimes import files


def test_unknown_runtime_suggests_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'openvino'"):
        get_runtime("openvno")


def test_names_of_the_table_are_those_of_the_classes():
    assert {name: runtime.name for name, runtime in RUNTIMES.items()} == {name: name for name in RUNTIMES}


def test_option_that_a_runtime_does_not_have_is_refused(tmp_path):
    path = files.write(files.SUM, tmp_path)
    with pytest.raises(OptionError, match=r"no option of runtime 'onnxruntime' 'soc'"):
        open_file("onnxruntime", path, {"soc": "sm8650"})
    with pytest.raises(OptionError, match="takes_codes"):  # no user's option
        open_file(ExactOnnxRuntime.name, path, {"takes_codes": True})


def test_unknown_chip_suggests_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'sm8650'"):
        get_soc("sm8651")


@pytest.mark.parametrize(
    ("runtime", "package", "line"),
    [
        pytest.param("htp", "onnxruntime_qnn", r"pip install 'fxquant\[qualcomm\]'", id="htp"),
        pytest.param("openvino", "openvino", r"pip install 'fxquant\[openvino\]'", id="openvino"),
    ],
)
def test_runtime_that_is_not_installed_says_how_to(runtime, package, line, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(MissingExtraError, match=line):
        open_file(runtime, files.write(files.SUM, tmp_path))


@pytest.mark.parametrize("runtime", files.RUNTIMES)
def test_file_that_a_runtime_refuses_is_named(runtime, tmp_path):
    path = files.write(files.SUM.replace("Add(", "Nothing("), tmp_path)
    with pytest.raises(RefusalError, match=r"refuses '.*model.onnx'") as raised:
        open_file(runtime, path).run(dict.fromkeys("xy", files.ZEROS))
    assert isinstance(raised.value, ExportError)
