import numpy as np
import onnx
import pytest

from fxquant.errors import BatchError, ExportError
from fxquant.runtimes import ExactOnnxRuntime, code_sites, input_sizes
from fxquant.runtimes.in_memory import fix_dimensions, is_static, load_named
from tests.runtimes import files


def test_nodes_are_named_after_what_they_give(tmp_path):
    graph = load_named(files.write(files.SUM, tmp_path)).graph
    assert [node.name for node in graph.node] == [node.output[0] for node in graph.node]


def test_code_sites_name_the_op_before_each_quantizer(tmp_path):
    sites = code_sites(files.write(files.SUM, tmp_path))
    assert [(site.codes, site.tensor, site.op) for site in sites] == [
        ("x_q", "x", "input"),
        ("y_q", "y", "input"),
        ("z_q", "z", "Add"),
    ]


def test_open_sizes_are_none(tmp_path):
    assert input_sizes(files.write(files.SUM, tmp_path)) == {"x": (None, 4), "y": (None, 4)}


def test_fixed_sizes_reach_the_outputs_and_leave_the_file_alone(tmp_path):
    path = files.write(files.SUM, tmp_path)
    before = path.read_bytes()
    model = load_named(path)
    fix_dimensions(model, {"x": (3, 4), "y": (3, 4)})
    assert is_static(model.graph)
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [3, 4]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        pytest.param({"x": (3, 4), "y": (2, 4)}, "2 should be 3", id="two sizes of one symbol"),
        pytest.param({"x": (3, 5), "y": (3, 4)}, "5 should be 4", id="a fixed size"),
        pytest.param({"x": (3,), "y": (3, 4)}, "rank 2", id="rank"),
        pytest.param({"x": (3, 4)}, "'y' of rank 2 is given nothing", id="missing"),
    ],
)
def test_sizes_that_do_not_fit_are_named(shapes, message, tmp_path):
    with pytest.raises(BatchError, match=message):
        fix_dimensions(load_named(files.write(files.SUM, tmp_path)), shapes)


def test_an_op_that_takes_codes_does_not_see_what_the_ops_before_it_gave(tmp_path):
    runtime = ExactOnnxRuntime(files.write(files.SUM, tmp_path), exposes_codes=True, takes_codes=True)
    feeds = {name: np.zeros((1, 4), np.float32) for name in "xy"}
    codes = {name: np.full((1, 4), code, np.uint8) for name, code in (("x_q", 130), ("y_q", 131), ("z_q", 7))}
    given = runtime.run(feeds | codes)
    assert given["x_q"].tolist() == [[128] * 4]  # of the input
    assert given["z_q"].tolist() == [[133] * 4]  # 2 + 3 steps above zero, of the codes taken
    assert given["z_dq"].tolist() == [[(7 - 128) * 0.125] * 4]


def test_what_is_no_onnx_file_is_named(tmp_path):
    path = tmp_path / "junk.onnx"
    path.write_text("junk")
    with pytest.raises(ExportError, match="cannot be read as ONNX"):
        code_sites(path)


def test_files_of_these_tests_are_valid_onnx(tmp_path):
    texts = (files.SUM, files.SUM_OF_TWO_TYPES, files.ERROR_FUNCTION, files.PADDED_POOL)
    for text in texts:
        onnx.checker.check_model(str(files.write(text, tmp_path)), full_check=True)
