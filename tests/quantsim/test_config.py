import json

import pytest
import torch
from torch import nn

from fxquant.errors import FxQuantError, OptionError
from fxquant.quantsim import CONFIGS, QuantizationSimModel, load_config
from tests.quantsim.models import Residual

OFF = {"defaults": {"ops": {}, "params": {}}}
ON = {
    "defaults": {
        "ops": {"is_output_quantized": "True"},
        "params": {"is_quantized": "True", "is_symmetric": "True"},
    }
}


def sim_of(config, model=None):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Softmax(1)) if model is None else model
    return QuantizationSimModel(model, torch.rand(1, 3, 4, 4), config_file=config)


def placed(sim):
    """Return the sides and parameters that have quantizers, as text."""
    found = []
    for name, module in sim.named_qmodules():
        found += [f"{name}.input{i}" for i, q in enumerate(module.input_quantizers) if q is not None]
        found += [f"{name}.{p}" for p, q in module.param_quantizers.items() if q is not None]
        found += [f"{name}.output{i}" for i, q in enumerate(module.output_quantizers) if q is not None]
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_every_named_configuration_makes_a_simulation(name):
    sim, x = (
        QuantizationSimModel(Residual(), torch.rand(2, 4, 6, 6), config_file=name),
        torch.rand(2, 4, 6, 6),
    )
    sim.compute_encodings(lambda model: model(x))
    assert torch.isfinite(sim.model(x)).all()


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        pytest.param(OFF, [], id="nothing_by_default"),
        pytest.param(ON, ["0.weight", "0.output0", "1.output0", "2.output0"], id="outputs_and_params"),
        pytest.param(
            ON | {"params": {"weight": {"is_quantized": "False"}}},
            ["0.output0", "1.output0", "2.output0"],
            id="params_override_defaults",
        ),
        pytest.param(
            ON
            | {
                "params": {"weight": {"is_quantized": "False"}},
                "op_type": {"Conv": {"params": {"weight": {"is_quantized": "True"}}}},
            },
            ["0.weight", "0.output0", "1.output0", "2.output0"],
            id="op_type_overrides_params",
        ),
        pytest.param(
            ON | {"op_type": {"Relu": {"is_output_quantized": "False"}}},
            ["0.weight", "0.output0", "2.output0"],
            id="op_type_overrides_defaults",
        ),
        pytest.param(
            OFF | {"op_type": {"Relu": {"is_input_quantized": "True"}}}, ["1.input0"], id="input_of_an_op"
        ),
        pytest.param(
            ON | {"supergroups": [{"op_list": ["Conv", "Relu", "Softmax"]}]},
            ["0.weight", "2.output0"],
            id="supergroup_keeps_its_last_output",
        ),
        pytest.param(
            ON | {"model_input": {"is_input_quantized": "True"}},
            ["0.input0", "0.weight", "0.output0", "1.output0", "2.output0"],
            id="model_input",
        ),
        pytest.param(
            OFF | {"model_input": {"is_input_quantized": "True"}},
            ["0.input0", "1.input0", "2.input0"],
            id="model_input_is_any_input_off_a_grid",
        ),
        pytest.param(
            OFF | {"model_output": {"is_output_quantized": "True"}}, ["2.output0"], id="model_output"
        ),
    ],
)
def test_sections_decide_what_is_quantized(config, wanted):
    assert placed(sim_of(config)) == wanted


def test_bias_is_never_quantized():
    config = ON | {"params": {"bias": {"is_quantized": "True"}}}
    assert [place for place in placed(sim_of(config)) if "bias" in place] == []


def test_symmetry_comes_from_the_configuration():
    config = {"defaults": {"ops": {"is_output_quantized": "True", "is_symmetric": "True"}, "params": {}}}
    assert sim_of(config).model.get_submodule("0").output_quantizers[0].symmetric


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        pytest.param("default", (4, 1, 1, 1), id="default"),
        pytest.param("htp_v66", (), id="htp_v66_is_per_tensor"),
        pytest.param("htp_v68", (4, 1, 1, 1), id="htp_v68"),
    ],
)
def test_weights_are_per_channel_where_the_configuration_says_so(config, shape):
    assert sim_of(config).model.get_submodule("0").param_quantizers["weight"].shape == shape


def test_transposed_convolution_has_a_range_per_output_channel():
    sim = sim_of("default", nn.Sequential(nn.ConvTranspose2d(3, 5, 2)))
    assert sim.model.get_submodule("0").param_quantizers["weight"].shape == (1, 5, 1, 1)


def test_constraints_fix_the_ends_of_a_range():
    constraints = {"Softmax": {"min": 0.0, "max": 1.0}, "Relu": {"min": 0.0}}
    op_types = {op: {"encoding_constraints": bounds} for op, bounds in constraints.items()}
    sim = sim_of(ON | {"op_type": op_types})
    relu, softmax = (sim.model.get_submodule(name).output_quantizers[0] for name in ("1", "2"))
    assert softmax.is_initialized()
    assert not relu.is_initialized()
    sim.compute_encodings(lambda model: model(torch.rand(1, 3, 4, 4) + 1.0))
    assert (float(softmax.min), float(softmax.max), float(relu.min)) == (0.0, 1.0, 0.0)
    assert not softmax.min.requires_grad
    assert relu.max.requires_grad


def test_opposite_constraints_make_a_range_symmetric():
    config = ON | {"op_type": {"Tanh": {"encoding_constraints": {"min": -1.0, "max": 1.0}}}}
    assert sim_of(config, nn.Sequential(nn.Tanh())).model.get_submodule("0").output_quantizers[0].symmetric


def test_batch_norm_behind_a_convolution_has_the_only_output_quantizer():
    sim = QuantizationSimModel(Residual(), torch.rand(2, 4, 6, 6), config_file=ON)
    assert sim.model.conv1.output_quantizers[0] is None
    assert sim.model.bn.param_quantizers["weight"] is None
    assert sim.model.bn.output_quantizers[0] is not None


def test_convolution_read_twice_keeps_its_quantizer_beside_a_supergroup():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 4, 1), nn.ReLU()

        def forward(self, x):
            x = self.conv(x)
            return self.relu(x) + x

    assert sim_of("default", Twice()).model.conv.output_quantizers[0] is not None


def test_configuration_is_read_from_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(ON), encoding="utf-8")
    assert load_config(path) == load_config(str(path)) == load_config(ON)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param([], id="list"),
        pytest.param({}, id="no_defaults"),
        pytest.param({"defaults": []}, id="defaults_is_a_list"),
        pytest.param(ON | {"op_types": {}}, id="unknown_section"),
        pytest.param({"defaults": {"ops": {"is_output_quantised": "True"}}}, id="unknown_entry"),
        pytest.param({"defaults": {"ops": {"is_output_quantized": True}}}, id="boolean"),
        pytest.param({"defaults": {"strict_symmetric": "True"}}, id="strict_symmetric"),
        pytest.param({"defaults": {"unsigned_symmetric": "True"}}, id="unsigned_symmetric"),
        pytest.param(ON | {"supergroups": [{}]}, id="supergroup_without_ops"),
        pytest.param(ON | {"supergroups": [{"op_list": "Conv"}]}, id="ops_are_a_text"),
        pytest.param(
            ON | {"op_type": {"Relu": {"encoding_constraints": {"min": "0"}}}}, id="constraint_is_a_text"
        ),
        pytest.param(ON | {"params": {"weight": "True"}}, id="parameter_is_a_text"),
    ],
)
def test_malformed_configuration_is_refused(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(OptionError):
        load_config(path)


@pytest.mark.parametrize("name", ["htp_v99", "missing.json"])
def test_unknown_configuration_is_refused(name):
    with pytest.raises(OptionError, match="There is no configuration"):
        load_config(name)


def test_file_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(FxQuantError, match="is not JSON"):
        load_config(path)
