"""OpenVINO's CPU plugin: the file of ONNX Runtime without what only its kernels want."""

from dataclasses import replace

from fxquant.quantization import QuantizationSpec
from fxquant.targets.onnxruntime import ONNXRUNTIME
from fxquant.targets.target import FileForm, Scheme

_INT4 = QuantizationSpec(bitwidth=4, signed=True, symmetric=True, block_size=128)

OPENVINO = replace(
    ONNXRUNTIME,
    name="openvino",
    description="OpenVINO CPU, QDQ format, uint8 activations and int8 weights",
    file=FileForm(gathers_codes=True),
    schemes={"w4": Scheme(activation=None, weight=_INT4, why="weights alone, in blocks of 128")},
)
