"""fxquant.optimize: algorithms in a row, with calibration around them."""

import pytest
import torch
from torch import nn

import fxquant
from fxquant.algorithms import CorrectBias, Equalize, Gptq
from fxquant.errors import ModelTypeError, OptionError


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    with torch.no_grad():
        model[0].weight[3].mul_(50.0)
        model[2].weight[:, 3].div_(50.0)
    return model


@pytest.fixture
def batches() -> list[torch.Tensor]:
    return [torch.randn(64, 16, generator=torch.Generator().manual_seed(i)) for i in range(4)]


def error(prepared: nn.Module, model: nn.Module) -> float:
    x = torch.randn(512, 16, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((fxquant.convert(prepared)(x) - model(x)).square().mean())


def optimized(model: nn.Module, batches: list[torch.Tensor], text: object) -> nn.Module:
    prepared = fxquant.prepare(model, batches[0], target="onnxruntime:w4a8")
    fxquant.optimize(prepared, batches, text, progress=False)  # type: ignore[arg-type]  # text or algorithms
    return prepared


def test_algorithms_in_a_row_lower_the_error_of_calibration_alone(
    model: nn.Module, batches: list[torch.Tensor]
) -> None:
    plain = fxquant.prepare(model, batches[0], target="onnxruntime:w4a8")
    fxquant.calibrate(plain, batches, progress=False)
    errors = [error(plain, model)]
    for text in ("equalize", "equalize,gptq", "equalize,gptq,correct-bias"):
        errors.append(error(optimized(model, batches, text), model))
    assert errors[1] < errors[0]
    assert errors[2] < 0.7 * errors[1]
    assert errors[3] < 1.05 * errors[2]


def test_ranges_are_found_anew_between_algorithms(model: nn.Module, batches: list[torch.Tensor]) -> None:
    prepared = fxquant.prepare(model, batches[0], target="onnxruntime:w4a8")
    fxquant.calibrate(prepared, batches, progress=False)
    fxquant.optimize(prepared, batches, "equalize,correct-bias", progress=False)
    fresh = optimized(model, batches, "equalize,correct-bias")
    assert error(prepared, model) == error(fresh, model)


def test_text_and_objects_give_the_same_model(model: nn.Module, batches: list[torch.Tensor]) -> None:
    x = batches[0]
    text = optimized(model, batches, "equalize,gptq{sweeps=1},correct-bias")
    objects = optimized(model, batches, [Equalize(), Gptq(sweeps=1), CorrectBias()])
    with torch.no_grad():
        torch.testing.assert_close(fxquant.convert(text)(x), fxquant.convert(objects)(x), atol=0.0, rtol=0.0)


def test_calibration_afterwards_keeps_the_grid_that_weights_were_rounded_for(
    model: nn.Module, batches: list[torch.Tensor]
) -> None:
    prepared = optimized(model, batches, "gptq")
    weight = prepared.get_submodule("2")
    encoding = weight.param_quantizers["weight"].get_encodings()  # type: ignore[union-attr,index,operator]  # quantized
    codes = weight.weight / encoding.scale  # type: ignore[union-attr,operator]
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0.0)


def test_misspelled_algorithm_is_refused_before_any_work(
    model: nn.Module, batches: list[torch.Tensor]
) -> None:
    prepared = fxquant.prepare(model, batches[0])
    with pytest.raises(OptionError, match=r"no algorithm 'equalise'.*Did you mean 'equalize'"):
        fxquant.optimize(prepared, batches, "gptq,equalise")
    assert not prepared.get_submodule("2").param_quantizers["weight"].has_range()  # type: ignore[union-attr,index,operator]


def test_model_that_is_not_prepared_is_refused(model: nn.Module, batches: list[torch.Tensor]) -> None:
    with pytest.raises(ModelTypeError, match="prepared"):
        fxquant.optimize(model, batches, "equalize")
