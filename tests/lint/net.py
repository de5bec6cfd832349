"""Net: a small ONNX model, node by node; a node has the name of its output."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "s2": (ml_dtypes.int2, TensorProto.INT2),
    "s4": (ml_dtypes.int4, TensorProto.INT4),
    "u4": (ml_dtypes.uint4, TensorProto.UINT4),
    "s8": (np.int8, TensorProto.INT8),
    "u8": (np.uint8, TensorProto.UINT8),
    "s16": (np.int16, TensorProto.INT16),
    "u16": (np.uint16, TensorProto.UINT16),
    "s32": (np.int32, TensorProto.INT32),
}
BITS = {"s2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16}
MIDDLE = {"u8": 128, "u16": 32768, "u4": 8}


class Net:
    """Nodes, constants and inputs so far."""

    def __init__(self, opset=21, seed=0):
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.inputs = [], [], []
        self.domains = set()

    def input(self, *shape, name="x", dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, name, values, code=None):
        if code in ("s4", "u4", "s2"):
            array, dtype = np.asarray(values), TYPES[code][1]
            tensor = helper.make_tensor(name, dtype, array.shape, array.reshape(-1).tolist())
        else:
            array = np.asarray(values, TYPES[code][0] if code else None)
            tensor = numpy_helper.from_array(
                array.astype(np.float32) if code is None and array.dtype == np.float64 else array, name
            )
        self.constants.append(tensor)
        return name

    def op(self, op_type, *inputs, name=None, outputs=1, domain="", **attributes):
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=name, domain=domain, **attributes))
        self.domains.add(domain)
        return name if outputs == 1 else names

    def q(self, x, scale=0.05, zero=0, code="s8", name=None, **attributes):
        name = name or f"{x}_q{len(self.nodes)}"
        parameters = [self.const(f"{name}_scale", np.asarray(scale, np.float32))]
        if zero is not None:
            parameters.append(self.const(f"{name}_zero", np.broadcast_to(zero, np.shape(scale)), code))
        return self.op("QuantizeLinear", x, *parameters, name=name, **attributes)

    def dq(self, codes, scale=0.05, zero=0, code="s8", name=None, **attributes):
        name = name or f"{codes}_dq{len(self.nodes)}"
        parameters = [self.const(f"{name}_scale", np.asarray(scale, np.float32))]
        if zero is not None:
            parameters.append(self.const(f"{name}_zero", np.broadcast_to(zero, np.shape(scale)), code))
        return self.op("DequantizeLinear", codes, *parameters, name=name, **attributes)

    def pair(self, x, scale=0.05, zero=0, code="s8", name=None, **attributes):
        """Quantize and dequantize; the name is that of the first."""
        return self.dq(self.q(x, scale, zero, code, name, **attributes), scale, zero, code, **attributes)

    def stored(self, name, *shape, code="s8", scale=None, axis=0, zero=0, **attributes):
        """A stored weight behind a DequantizeLinear: a scale per index of the axis, or the one given."""
        half = 2 ** (BITS[code] - 1) - 1
        values = self.random.integers(-half, half + 1, shape) + MIDDLE.get(code, 0)
        if scale is None:
            scale = self.random.uniform(0.005, 0.02, shape[axis]).astype(np.float32)
        options = {"axis": axis} if np.ndim(scale) and np.size(scale) > 1 else {}
        self.const(name, values, code)
        return self.dq(name, scale, zero, code, name=f"{name}_dq", **options, **attributes)

    def floats(self, name, *shape, spread=0.2):
        return self.const(name, (self.random.standard_normal(shape) * spread).astype(np.float32))

    def build(self, *outputs):
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, values, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(self.domains - {""})]
        return helper.make_model(graph, opset_imports=opsets, ir_version=13 if self.opset > 24 else 10)
