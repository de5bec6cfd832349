"""Constants that a file quantizes are stored as their codes."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fxquant.export.fold_quantizers import fold_quantizers

OPSET = 19
WEIGHT = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
SCALES = np.linspace(0.005, 0.02, 6, dtype=np.float32)


def test_a_weight_becomes_integers_and_the_result_stays_to_the_bit() -> None:
    before = _model({"w": WEIGHT, "s": SCALES, "z": np.zeros(6, np.int8)}, axis=0)
    after = _folded(before)
    assert [node.op_type for node in after.graph.node] == ["DequantizeLinear", "MatMul"]
    assert {t.name: t.data_type for t in after.graph.initializer} == {
        "w_codes": TensorProto.INT8,
        "s": TensorProto.FLOAT,
        "z": TensorProto.INT8,
    }
    np.testing.assert_array_equal(_run(after), _run(before))


@pytest.mark.parametrize(
    ("scale", "zero_point", "attributes"),
    [
        (np.float32(0.02), np.int8(0), {}),
        (np.float32(0.02), np.uint8(131), {}),
        (np.float32(0.001), np.int8(-7), {}),
        (np.full(8, 0.02, np.float32), np.arange(8, dtype=np.uint8), {"axis": 1}),
        (np.full(8, 0.02, np.float32), np.arange(8, dtype=np.uint8), {"axis": -1}),
    ],
    ids=["tensor", "zero point", "saturated", "channels", "last axis"],
)
def test_codes_are_those_of_the_runtime(
    scale: np.ndarray, zero_point: np.ndarray, attributes: dict[str, int]
) -> None:
    before = _model({"w": WEIGHT, "s": scale, "z": zero_point}, **attributes)
    after = _folded(before)
    assert "QuantizeLinear" not in [node.op_type for node in after.graph.node]
    np.testing.assert_array_equal(_run(after), _run(before))


def test_halves_round_to_even() -> None:
    halves = (np.arange(48, dtype=np.float32).reshape(6, 8) - 24) / 2
    after = _folded(_model({"w": halves, "s": np.float32(1), "z": np.int8(0)}))
    codes = numpy_helper.to_array(next(t for t in after.graph.initializer if t.name == "w_codes"))
    np.testing.assert_array_equal(codes, np.rint(halves))


def test_what_a_weight_is_computed_from_is_computed() -> None:
    before = _model({"w": WEIGHT, "s": np.float32(0.02), "z": np.int8(0)}, before=("Abs", "Neg"))
    after = _folded(before)
    assert [node.op_type for node in after.graph.node] == ["DequantizeLinear", "MatMul"]
    np.testing.assert_array_equal(_run(after), _run(before))


@pytest.mark.parametrize(
    "constants",
    [
        {"w": WEIGHT.astype(np.float16), "s": np.float16(0.02), "z": np.int8(0)},
        {"w": WEIGHT, "s": np.float32(0.02), "z": np.int8(0), "input": "w"},
    ],
    ids=["float16", "an activation"],
)
def test_what_is_no_constant_in_float32_stays(constants: dict[str, object]) -> None:
    is_input = constants.pop("input", None) == "w"
    before = _model(constants, is_input=is_input)
    assert [node.op_type for node in _folded(before).graph.node] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "MatMul",
    ]


def _model(
    constants: dict[str, np.ndarray],
    *,
    before: tuple[str, ...] = (),
    is_input: bool = False,
    **attributes: int,
) -> onnx.ModelProto:
    """Return x [2, 6] @ the quantized weight [6, 8], which operators may come before."""
    names = ["w", *(f"w{index}" for index in range(len(before)))]
    steps = [helper.make_node(op, [names[i]], [names[i + 1]]) for i, op in enumerate(before)]
    kind = helper.np_dtype_to_tensor_dtype(constants["w"].dtype)
    nodes = [
        *steps,
        helper.make_node("QuantizeLinear", [names[-1], "s", "z"], ["q"], **attributes),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], **attributes),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, [2, 6])]
    inputs += [helper.make_tensor_value_info("w", kind, [6, 8])] if is_input else []
    held = [
        numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items() if not (is_input and n == "w")
    ]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", kind, [2, 8])], initializer=held
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    read = ir.serde.deserialize_model(model)
    fold_quantizers(read)
    folded = ir.serde.serialize_model(read)
    onnx.checker.check_model(folded)
    return folded


def _run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])
