import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.errors import OptionError
from fxquant.quantization.float import FloatQuantizeDequantize
from fxquant.quantsim import QuantizationDataType, QuantizationSimModel
from tests.quantsim.models import Residual, linears


class OneOp(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x, y):
        return self.call(x, y)


@pytest.mark.parametrize(
    ("call", "module"),
    [
        pytest.param(lambda x, y: x + y, "add", id="operator"),
        pytest.param(lambda x, y: x.add(y), "add", id="method"),
        pytest.param(lambda x, y: x.mul_(y), "mul", id="in_place_method"),
        pytest.param(lambda x, y: F.relu(x), "relu", id="relu"),
        pytest.param(lambda x, y: F.softmax(x, dim=-1), "softmax", id="softmax"),
        pytest.param(lambda x, y: x.softmax(-1), "softmax", id="softmax_method"),
        pytest.param(lambda x, y: torch.cat([x, y], 1), "cat", id="cat"),
        pytest.param(lambda x, y: torch.stack((x, y)), "stack", id="stack"),
        pytest.param(lambda x, y: x @ y, "matmul", id="matmul"),
        pytest.param(lambda x, y: F.adaptive_avg_pool2d(x, 1), "adaptive_avg_pool", id="pool"),
        pytest.param(lambda x, y: x.mean(-1), "mean", id="mean"),
        pytest.param(lambda x, y: F.layer_norm(x, (4,)), "layer_norm", id="layer_norm"),
    ],
)
def test_functional_op_gets_quantizers(call, module):
    x, y = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    sim = QuantizationSimModel(OneOp(call), (x, y))
    sim.compute_encodings(lambda model: model(x.clone(), y))
    layer = sim.model.get_submodule(module)
    assert layer.input_quantizers[0].is_initialized()
    assert layer.output_quantizers[0].is_initialized()
    step = layer.output_quantizers[0].get_scale() + layer.input_quantizers[0].get_scale() * 8
    assert (sim.model(x.clone(), y) - call(x.clone(), y)).abs().max() <= step  # a matmul adds four products


def test_op_that_keeps_the_grid_gets_no_quantizer():
    sim = QuantizationSimModel(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2)), torch.rand(1, 3, 4, 4))
    assert sim.model.get_submodule("1").input_quantizers[0] is None
    assert sim.model.get_submodule("1").output_quantizers[0] is None


def test_every_joined_tensor_is_quantized():
    x, y = torch.rand(2, 4), torch.rand(2, 4) * 3.0
    sim = QuantizationSimModel(OneOp(lambda x, y: torch.cat([x, x, y], 1)), (x, y))
    quantizers = [*sim.model.cat.input_quantizers, *sim.model.cat.output_quantizers]
    assert len(quantizers) == 4
    assert all(quantizer is quantizers[0] for quantizer in quantizers)


def test_joined_outputs_share_the_quantizer_of_the_result():
    sim = QuantizationSimModel(Residual(), torch.rand(2, 4, 6, 6))
    assert sim.model.add.output_quantizers[0] is sim.model.cat.output_quantizers[0]


def test_float_data_type_places_float_quantizers():
    sim = QuantizationSimModel(
        linears(),
        torch.rand(2, 16),
        default_output_bw=16,
        default_param_bw=16,
        default_data_type=QuantizationDataType.float,
    )
    assert {type(quantizer) for quantizer in sim.quantizers()} == {FloatQuantizeDequantize}


@pytest.mark.parametrize(
    ("param_bw", "output_bw"), [(2, 32), (4, 4), (4, 32), (16, 16), (32, 4)], ids=lambda bits: str(bits)
)
def test_bitwidths_within_limits_are_taken(param_bw, output_bw):
    sim = QuantizationSimModel(
        linears(), torch.rand(2, 16), default_param_bw=param_bw, default_output_bw=output_bw
    )
    assert sim.model.get_submodule("2").param_quantizers["weight"].bitwidth == param_bw
    assert sim.model.get_submodule("2").output_quantizers[0].bitwidth == output_bw


@pytest.mark.parametrize(
    ("param_bw", "output_bw"), [(4, 2), (1, 8), (4, 33), (33, 4)], ids=lambda bits: str(bits)
)
def test_bitwidth_out_of_limits_is_a_value_error(param_bw, output_bw):
    with pytest.raises(ValueError, match="is not supported") as raised:
        QuantizationSimModel(
            linears(), torch.rand(2, 16), default_param_bw=param_bw, default_output_bw=output_bw
        )
    assert isinstance(raised.value, OptionError)


def test_float_of_another_width_is_refused():
    with pytest.raises(OptionError, match="Floats of 8 bits"):
        QuantizationSimModel(linears(), torch.rand(2, 16), default_data_type=QuantizationDataType.float)
