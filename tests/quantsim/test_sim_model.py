import copy

import pytest
import torch
from torch import nn

from fxquant.errors import ModelTypeError, OptionError
from fxquant.nn import QuantizedConv2d, QuantizedLinear
from fxquant.quantization import DequantizedTensor
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantsim import QuantizationSimModel, load_checkpoint, save_checkpoint
from tests.quantsim.models import Attention, Residual, linears


@pytest.fixture
def images():
    return torch.randn(4, 4, 6, 6)


@pytest.fixture
def sim(images):
    made = QuantizationSimModel(Residual().eval(), images)
    made.compute_encodings(lambda model: model(images))
    return made


def test_callback_gets_its_argument_only_where_one_is_given(images):
    one, two = (QuantizationSimModel(copy.deepcopy(model), images) for model in [Residual().eval()] * 2)
    one.compute_encodings(lambda model: model(images))
    two.compute_encodings(lambda model, batch: model(batch), images)
    two.compute_encodings(lambda model, batch: model(images), None)
    for first, second in zip(one.quantizers(), two.quantizers(), strict=True):
        assert torch.equal(first.get_min(), second.get_min())
        assert torch.equal(first.get_max(), second.get_max())


def test_calibration_runs_in_evaluation_mode_and_restores_the_modes(sim, images):
    sim.model.train()
    sim.model.bn.eval()
    seen = []
    sim.compute_encodings(lambda model: seen.append(model.conv1.training) or model(images))
    assert seen == [False]
    assert sim.model.conv1.training
    assert not sim.model.bn.training


def test_modes_are_restored_and_ranges_kept_when_the_callback_fails(sim):
    sim.model.train()
    before = sim.model.fc.output_quantizers[0].get_max().item()

    def fail(model):
        raise KeyError("data")

    with pytest.raises(KeyError, match="data"):
        sim.compute_encodings(fail)
    assert sim.model.training
    assert sim.model.fc.output_quantizers[0].get_max().item() == before


def test_original_model_is_left_as_it_is_and_given_back(sim, images):
    model = Residual().eval()
    made = QuantizationSimModel(model, images)
    assert type(model.conv1) is nn.Conv2d
    original = made.get_original_model()
    assert type(original.conv1) is nn.Conv2d
    torch.testing.assert_close(original(images), model(images))


def test_in_place_shares_the_parameters(images):
    model = Residual().eval()
    sim = QuantizationSimModel(model, images, in_place=True)
    assert sim.model.conv1.weight is model.conv1.weight


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(nn.Sequential(QuantizedConv2d(3, 3, 3), nn.ReLU()), id="module"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 3, 3), QuantizeDequantize((), 8, False)), id="quantizer"),
        pytest.param(QuantizedConv2d(3, 3, 3), id="the_model"),
        pytest.param(QuantizeDequantize((), 8, False), id="the_quantizer"),
    ],
)
def test_model_with_quantizers_is_refused(model):
    with pytest.raises(RuntimeError, match="already contains") as raised:
        QuantizationSimModel(model, torch.rand(1, 3, 4, 4))
    assert isinstance(raised.value, ModelTypeError)


def test_containers_of_the_model_are_indexed_as_before():
    sim = QuantizationSimModel(Attention(), (torch.zeros(1, 3, dtype=torch.long), torch.rand(1, 3, 16)))
    assert isinstance(sim.model.layers[1], QuantizedLinear)
    assert isinstance(sim.model.layers, nn.ModuleList)


def test_simulation_is_in_evaluation_mode():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.Dropout())
    sim = QuantizationSimModel(model.train(), torch.rand(1, 4, 4, 4))
    assert not any(module.training for module in sim.qmodules())


def test_inputs_may_be_a_dict():
    inputs = {"ids": torch.zeros(1, 3, dtype=torch.long), "x": torch.rand(1, 3, 16)}
    sim = QuantizationSimModel(Attention(), inputs)
    sim.compute_encodings(lambda model: model(**inputs))
    assert sim.model(**inputs)[0].shape == (1, 3, 48)


@pytest.mark.slow
def test_checkpoint_gives_equal_outputs_and_names(sim, images, tmp_path):
    save_checkpoint(sim, tmp_path / "sim.pt")
    loaded = load_checkpoint(tmp_path / "sim.pt")
    assert torch.equal(loaded.model(images), sim.model(images))
    for name, one in (("sim", sim), ("loaded", loaded)):
        one.export(tmp_path, name, images)
    texts = [(tmp_path / f"{name}.encodings").read_text(encoding="utf-8") for name in ("sim", "loaded")]
    assert texts[0] == texts[1]


def test_copy_of_a_simulation_has_quantizers_of_its_own(sim, images):
    copied = copy.deepcopy(sim)
    copied.model.fc.output_quantizers[0].set_range(-1e-3, 1e-3)
    assert not torch.equal(copied.model(images), sim.model(images))


def test_file_that_holds_something_else_is_refused(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(OptionError, match="holds a dict"):
        load_checkpoint(tmp_path / "other.pt")


def test_percentile_narrows_the_ranges(images):
    sim, tops = QuantizationSimModel(Residual().eval(), images, quant_scheme="percentile"), []
    for percentile in (99.9, 90.0):
        sim.set_percentile_value(percentile)
        sim.compute_encodings(lambda model: model(images))
        tops.append(sim.model.conv1.input_quantizers[0].get_max().item())
    assert tops[1] < tops[0]


def test_excluded_layers_and_parameters_have_no_quantizers(sim):
    sim.exclude_layers_from_quantization([sim.model.fc])
    sim.exclude_param_from_quantization("weight")
    names = [name for name, _ in sim.named_quantizers()]
    assert [name for name in names if name.startswith("fc") or "param_quantizers" in name] == []
    assert names


def test_folded_parameters_compute_the_same(sim, images):
    before = sim.model(images)
    sim.fold_param_quantizers()
    assert isinstance(sim.model.fc.weight, DequantizedTensor)
    assert torch.equal(sim.model(images), before)


def test_training_lowers_the_loss_and_ranges_get_gradients():
    x, model = torch.randn(64, 16), linears()
    target = model(x).detach()
    sim = QuantizationSimModel(model, x, default_param_bw=3, default_output_bw=4)
    sim.compute_encodings(lambda model: model(x))
    optimizer = torch.optim.SGD(sim.model.parameters(), lr=0.02)
    losses = []
    for _ in range(4):
        loss = nn.functional.mse_loss(sim.model(x), target)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[3] < losses[2] < losses[1] < losses[0]
    assert all(parameter.grad is not None for parameter in sim.quantizer_parameters())


def test_named_lists_agree(sim):
    assert [q for _, q in sim.named_quantizers()] == list(sim.quantizers())
    assert [m for _, m in sim.named_qmodules()] == list(sim.qmodules())
    assert len(list(sim.quantizer_parameters())) == 2 * len(list(sim.quantizers()))
    assert str(sim) == str(sim.model)
