"""The accuracy benchmark: its models, data, metrics and recipes are what the table says they are."""

import pytest
import torch

import fxquant
from benchmarks.accuracy.digits import load_digits, train
from benchmarks.accuracy.document import DOCUMENT, OURS, document_text, merged
from benchmarks.accuracy.llama import build_llama, token_batches
from benchmarks.accuracy.metrics import fidelity_of
from benchmarks.accuracy.networks import SeparableNet, rescale_channels
from benchmarks.accuracy.recipe import Recipe
from benchmarks.accuracy.sentences import calibration_sentences, evaluated_sentences
from benchmarks.accuracy.settings import SETTINGS
from benchmarks.result import save_rows
from fxquant.errors import OptionError
from fxquant.targets import get_target

ROW = {"model": "resnet", "setting": "W8A8", "tool": "ours", "recipe": "minmax", "simulation": "99.0 %"}


def test_document_is_what_the_kept_results_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document_text()


def test_rescaled_channels_keep_the_function_to_the_last_bit() -> None:
    torch.manual_seed(0)
    model, images = SeparableNet().eval(), torch.rand(4, 1, 32, 32)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    with torch.no_grad():
        wanted, before = model(images), model.bn.weight.clone()
        rescale_channels(model)
        assert torch.equal(model(images), wanted)
    assert (model.bn.weight / before).log2().aminmax() == (-4, 4)


def test_held_out_images_are_no_training_images() -> None:
    digits = load_digits()
    trained = {image.numpy().tobytes() for image in digits.train_images}
    assert len(digits.test_labels) == 599
    assert not any(image.numpy().tobytes() in trained for image in digits.test_images)


@pytest.mark.slow
def test_training_is_the_same_every_time() -> None:
    torch.set_num_threads(1)
    first, second = (train(SeparableNet(), load_digits(), epochs=1).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluated_sentences_are_kept_apart_from_calibration() -> None:
    evaluated, calibration = evaluated_sentences(), calibration_sentences()
    assert (len(set(evaluated)), len(set(calibration))) == (200, 64)
    assert not set(evaluated) & set(calibration)
    assert evaluated_sentences() == evaluated


def test_llama_has_outlier_channels_and_is_the_same_every_time() -> None:
    batch = token_batches()[0][0]
    seen = []
    model = build_llama()
    model.model.model.layers[2].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        assert torch.equal(model(batch), build_llama()(batch))
    peaks = seen[0].abs().amax((0, 1))
    assert peaks.max() > 20 * peaks.median()
    assert sorted(peaks.topk(3).indices.tolist()) == [7, 101, 190]


def test_fidelity_is_that_of_known_noise() -> None:
    wanted = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    found = fidelity_of(wanted + torch.tensor([[0.0, 1.0], [0.0, 1.0]]), wanted, torch.tensor([0, 0]))
    assert found.sqnr == pytest.approx(20)  # 200 / 2
    assert found.top1 == 50
    assert found.worst_cosine == pytest.approx(10 / 101**0.5)
    assert fidelity_of(wanted, wanted).sqnr == float("inf")


def test_recipe_is_read_from_text() -> None:
    assert Recipe.of("equalize,gptq{steps=2}; sqnr, weights mse") == Recipe(
        algorithms="equalize,gptq{steps=2}", method="sqnr", weights="mse"
    )
    assert Recipe.of("minmax") == Recipe(algorithms="", method="minmax", weights="minmax")


def test_method_of_a_recipe_that_does_not_exist_is_refused() -> None:
    batch = torch.rand(2, 3)
    prepared = fxquant.prepare(torch.nn.Linear(3, 4).eval(), batch, target="onnxruntime")
    with pytest.raises(OptionError):
        Recipe.of("guess").apply(prepared, [batch])


def test_every_setting_is_a_scheme() -> None:
    assert {setting: get_target(text).weight.bitwidth for setting, text in SETTINGS.items()} == {
        setting: int(setting[1]) for setting in SETTINGS
    }


def test_fresh_row_takes_the_place_of_the_same_job(tmp_path) -> None:
    fresh = ROW | {"simulation": "99.5 %"}
    assert merged([ROW, ROW | {"recipe": "mse"}], [fresh]) == [fresh, ROW | {"recipe": "mse"}]
    save_rows(OURS, [fresh], tmp_path)
    assert "| W8A8 | ours | minmax | 99.5 % |" in document_text(tmp_path)
