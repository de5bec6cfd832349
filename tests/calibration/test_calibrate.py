import pytest
import torch

import fxquant
from fxquant.calibration import CalibrationInterpreter
from fxquant.calibration.sites import activation_sites, weight_sites
from tests import digits

IMAGES = digits.split().train_images[:96]


def ranges(model):
    return {
        site.name: (site.quantizer.min.item(), site.quantizer.max.item()) for site in activation_sites(model)
    }


def calibrated(target, batches):
    model = fxquant.prepare(digits.float_model(), target=target)
    fxquant.calibrate(model, batches)
    return model


@pytest.mark.parametrize("target", digits.TARGETS)
def test_ranges_do_not_depend_on_the_order_of_batches(target):
    batches = list(IMAGES.split(32))
    assert ranges(calibrated(target, batches)) == ranges(calibrated(target, batches[::-1]))


def test_ranges_are_those_of_the_float_model():
    model = calibrated("onnxruntime", [IMAGES])
    seen = {}
    hook = digits.float_model().stem.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    with torch.no_grad():
        digits.float_model()(IMAGES)
    hook.remove()
    assert ranges(model)["x"] == (min(0.0, seen["x"].min().item()), seen["x"].max().item())


def test_weight_ranges_are_per_output_channel():
    for site in weight_sites(calibrated("onnxruntime", [IMAGES])):
        largest = site.parameter.detach().abs().flatten(1).amax(1)
        # one rounding of the division by 127 and one of the product
        torch.testing.assert_close(
            site.quantizer.max.detach().flatten(), largest, rtol=2**-23, atol=0, msg=site.name
        )


def test_fixed_ranges_are_kept():
    assert ranges(calibrated("onnxruntime", [IMAGES]))["block1.gate.sigmoid"] == (0.0, 1.0)


def test_second_calibration_replaces_the_first():
    model = calibrated("tensorrt", [IMAGES * 100])
    fxquant.calibrate(model, [IMAGES])
    assert ranges(model) == ranges(calibrated("tensorrt", [IMAGES]))


def test_first_batch_is_remembered_to_export_with(tmp_path):
    model = fxquant.convert(calibrated("tensorrt", list(IMAGES.split(32))))
    files = fxquant.export(model, tmp_path / "named.onnx")
    assert files.onnx.name == "named.onnx"
    assert files.encodings.name == "named.encodings"


def test_no_progress_bar_without_a_terminal(capsys):
    calibrated("tensorrt", [IMAGES])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_interpreter_frees_activations_after_their_last_use():
    model = fxquant.prepare(digits.float_model(), target="tensorrt")
    interpreter = CalibrationInterpreter(model)
    interpreter.run(IMAGES)
    assert {node.op for node in interpreter.env} <= {"output"}
