import onnx.parser
import pytest

from fxquant.runtimes.in_memory import load_named
from fxquant.runtimes.quantized_nodes import quantized_nodes
from tests.runtimes import files


def nodes_of(text, tmp_path):
    return quantized_nodes(load_named(files.write(text, tmp_path)))


def test_an_op_between_dequantize_and_quantize_is_quantized(tmp_path):
    assert nodes_of(files.SUM, tmp_path) == {"z"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("z = Add(x_dq, half)", set(), id="a float constant"),
        pytest.param("y = Add(x_dq, x_dq) z = Relu(y)", {"y", "z"}, id="an op and its relu"),
        pytest.param("z = Clip(x_dq, half)", {"z"}, id="bounds are no tensors"),
        pytest.param("y = Softmax(x_dq) z = Tanh(y)", set(), id="two ops in a row"),
        pytest.param("shape = Shape(x_dq) z = Reshape(x_dq, shape)", {"z"}, id="integers do not count"),
    ],
)
def test_node_is_quantized_if_all_its_floats_are(body, expected, tmp_path):
    text = f"""{files.HEAD}
    case (float[2, 4] x) => (uint8[2, 4] z_q)
    <float scale = {{0.125}}, float half = {{0.5}}, uint8 zero = {{128}}> {{
      x_q = QuantizeLinear(x, scale, zero)
      x_dq = DequantizeLinear(x_q, scale, zero)
      {body}
      z_q = QuantizeLinear(z, scale, zero)
    }}"""
    assert nodes_of(text, tmp_path) == expected


def test_an_op_whose_output_is_also_given_in_float_is_not(tmp_path):
    model = onnx.parser.parse_model(files.SUM)
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert quantized_nodes(load_named(path)) == set()
