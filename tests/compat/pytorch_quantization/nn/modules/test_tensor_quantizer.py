"""TensorQuantizer: what its forward does in every state, and what its switches refuse."""

import copy
import pickle

import numpy as np
import pytest
import torch

from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from tests.compat.pytorch_quantization import statements

PER_CHANNEL = np.linspace(0.5, 2.0, 8, dtype=np.float32).reshape(1, 8, 1, 1)
DESCRIPTORS = {
    "dynamic": {},
    "static": {"amax": 1.5},
    "axis": {"axis": 1},
    "static-axis": {"axis": 1, "amax": PER_CHANNEL},
    "unsigned": {"unsigned": True, "amax": 2.0},
    "narrow": {"narrow_range": True},
    "scaled": {"scale_amax": 0.75, "amax": 1.0},
    "e4m3": {"num_bits": (4, 3)},
    "e4m3-axis": {"num_bits": (4, 3), "axis": 1},
    "real": {"fake_quant": False, "amax": 1.0},
    "learned": {"learn_amax": True, "amax": 1.0},
}
EVERY = pytest.mark.parametrize("options", DESCRIPTORS.values(), ids=DESCRIPTORS)


@pytest.fixture
def fb_fake_quant(monkeypatch):
    monkeypatch.setattr(TensorQuantizer, "use_fb_fake_quant", True)


def quantizer(**options):
    switches = {
        name: options.pop(name) for name in ("disabled", "if_quant", "if_clip", "if_calib") if name in options
    }
    return TensorQuantizer(QuantDescriptor(**options), **switches)


def inputs(options):
    x = torch.randn(4, 8, 3, 3)
    return x.abs() if options.get("unsigned") else x


def test_the_seeds_example_gives_the_codes_of_a_channel_each():
    desc = QuantDescriptor(num_bits=4, fake_quant=False, axis=(0), unsigned=True)
    quantizer = TensorQuantizer(desc)
    torch.manual_seed(12345)
    x = torch.rand(10, 9, 8, 7)
    codes = quantizer(x)
    assert quantizer.scale.shape == (10, 1, 1, 1)
    assert sorted(set(codes.flatten().tolist())) == list(range(16))
    amax = x.numpy().max((1, 2, 3), keepdims=True)
    np.testing.assert_array_equal(codes, statements.codes_and_scale(x.numpy(), amax, 4, True, True)[0])


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (0, -1)], ids=str)
def test_amax_is_found_in_each_tensor_along_the_axes_kept(axis):
    x = torch.randn(3, 4, 5)
    kept = () if axis is None else tuple(np.atleast_1d(axis) % 3)
    amax = np.abs(x.numpy()).max(tuple({0, 1, 2} - set(kept)), keepdims=True)
    wanted = statements.fake(x.numpy(), amax, 8, False, False)
    np.testing.assert_array_equal(quantizer(axis=axis)(x), wanted)


def test_fake_codes_are_of_the_full_range_and_real_ones_of_the_narrow_one():
    x = torch.tensor([-3.0, 1.0])
    assert quantizer(amax=1.0)(x).tolist() == (torch.tensor([-128.0, 127.0]) / 127).tolist()
    assert quantizer(amax=1.0, narrow_range=True)(x).tolist() == [-1, 1]
    assert quantizer(amax=1.0, fake_quant=False)(x).tolist() == [-127, 127]


def test_scale_amax_is_a_factor_each_time():
    module = quantizer(amax=0.5, scale_amax=0.9)
    x = torch.rand(100)
    wanted = statements.fake(x.numpy(), np.float32(0.5) * np.float32(0.9), 8, False, False)
    for _ in range(2):
        np.testing.assert_array_equal(module(x), wanted)
    assert module.amax == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_amax_is_float32_but_for_double_tensors(dtype):
    module, x = quantizer(), torch.randn(10).to(dtype)
    assert module._get_amax(x).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert module(x).dtype == dtype


@pytest.mark.parametrize("disabled", [False, True], ids=["enabled", "disabled"])
def test_the_scale_before_quantization_is_a_factor_even_when_disabled(disabled):
    module = quantizer(axis=1, amax=127.0, disabled=disabled)
    x = torch.tensor([[0.0, 0.4, 1.1, 2.0]])
    module.pre_quant_scale = 2.0
    assert module(x).tolist() == ((x * 2) if disabled else (x * 2).round()).tolist()


def test_a_disabled_quantizer_returns_what_it_is_given():
    x = torch.randn(3)
    module = quantizer(disabled=True, if_calib=True)
    assert module(x) is x
    assert module._calibrator.compute_amax() is None
    module.enable()
    assert module(x) is not x
    module.disable()
    assert module(x) is x


def test_calibration_sees_tensors_and_quantization_can_wait():
    module = quantizer(axis=0)
    module.enable_calib()
    module.disable_quant()
    x, y = torch.randn(2, 5), torch.randn(2, 5)
    assert module(x) is x
    module(y)
    module.disable_calib()
    module(x * 100)
    module.load_calib_amax()
    assert torch.equal(module.amax, torch.maximum(x.abs(), y.abs()).amax(1, keepdim=True))
    module.enable_quant()
    np.testing.assert_array_equal(module(x), statements.fake(x.numpy(), module.amax.numpy(), 8, False, False))


def test_amax_is_not_the_calibrators_own_tensor():
    module = quantizer(if_calib=True)
    module(torch.ones(2))
    module.load_calib_amax()
    module.amax = 5.0
    assert module._calibrator.compute_amax() == 1
    module.load_calib_amax()
    assert module.amax == 1


def test_a_learned_range_clips_and_is_trained():
    module = quantizer(learn_amax=True, amax=0.5)
    x = torch.tensor([-2.0, 0.2, 3.0])
    np.testing.assert_array_equal(
        module(x).detach(), statements.fake(x.clamp(-0.5, 0.5).numpy(), 0.5, 8, False, False)
    )
    module(x).backward(torch.tensor([1.0, 2.0, 4.0]))
    assert (module.clip.clip_value_min.grad, module.clip.clip_value_max.grad) == (1, 4)


def test_clipping_alone_does_not_quantize():
    module = quantizer(learn_amax=True, amax=0.5, if_quant=False)
    x = torch.randn(10)
    assert torch.equal(module(x), x.clamp(-0.5, 0.5))
    module.disable_clip()
    assert module(x) is x
    module.enable_clip()
    assert torch.equal(module(x), x.clamp(-0.5, 0.5))


def test_the_learned_range_starts_from_the_largest_amax(caplog):
    module = quantizer(learn_amax=True)
    module.amax = np.float32([0.5, 2.0])
    module.init_learn_amax()
    assert (module.clip.clip_value_min, module.clip.clip_value_max) == (-2, 2)
    assert "largest of the 2 amax" in caplog.text


@EVERY
def test_copies_and_pickles_quantize_alike(options):
    module, x = quantizer(**options), inputs(options)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), module(x))


@pytest.mark.slow  # the compiler starts up
@EVERY
def test_a_compiled_quantizer_gives_the_same_values_and_gradients(options, fresh_compiler):
    module, x = quantizer(**options), inputs(options)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), module(x))
    gradients = []
    for forward in (module, compiled):
        leaf = x.clone().requires_grad_()
        forward(leaf).sum().backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@pytest.mark.filterwarnings("ignore:.*assigned during export")  # the scale of codes
@EVERY
def test_an_exported_program_quantizes_alike(options):
    module, x = quantizer(**options), inputs(options)
    with torch.no_grad():
        assert torch.equal(torch.export.export(module, (x,)).module()(x), module(x))


@pytest.mark.parametrize("unsigned", [False, True], ids=["signed", "unsigned"])
def test_fb_fake_quant_is_torchs_own(unsigned, fb_fake_quant):
    x = torch.randn(4, 8, 3, 3)
    low, high = (0, 255) if unsigned else (-128, 127)
    single = quantizer(amax=0.7, unsigned=unsigned)
    scale = single.amax.item() / high
    assert torch.equal(single(x), torch.fake_quantize_per_tensor_affine(x, scale, 0, low, high))
    several = quantizer(amax=PER_CHANNEL, axis=1, unsigned=unsigned)
    scales, zeros = several.amax.flatten() / high, torch.zeros(8, dtype=torch.int32)
    assert torch.equal(several(x), torch.fake_quantize_per_channel_affine(x, scales, zeros, 1, low, high))


def test_fb_fake_quant_refuses_float16_and_several_axes(fb_fake_quant):
    with pytest.raises(RuntimeError, match="does not take float16"):
        quantizer(amax=1.0)(torch.ones(2).half())
    with pytest.raises(TypeError, match="one axis"):
        quantizer(axis=(0, 1))(torch.randn(2, 3, 4))


def test_what_cannot_be_enabled_is_refused():
    with pytest.raises(ValueError, match="learn_amax is False"):
        quantizer().enable_clip()
    with pytest.raises(ValueError, match="learn_amax is False"):
        quantizer(if_clip=True)
    module = quantizer(calib_method="none")
    assert module._calibrator is None
    with pytest.raises(ValueError, match="cannot enable calibration"):
        module.enable_calib()
    with pytest.raises(RuntimeError, match="Calibrator was not created"):
        module.load_calib_amax()
    with pytest.raises(RuntimeError, match="Calibrator was not created"):
        quantizer(calib_method="none", if_calib=True)(torch.ones(2))


def test_an_empty_calibrator_is_an_error_unless_it_may_be_empty(caplog):
    module = quantizer()
    with pytest.raises(RuntimeError, match="Calibrator returned None"):
        module.load_calib_amax()
    module.load_calib_amax(strict=False)
    assert module.amax.isnan()
    assert "set to NaN" in caplog.text


def test_a_learned_range_has_to_be_known_to_start_from_it():
    with pytest.raises(RuntimeError, match="learn_amax=False"):
        quantizer(amax=1.0).init_learn_amax()
    with pytest.raises(RuntimeError, match="amax is not known"):
        quantizer(learn_amax=True).init_learn_amax()


@pytest.mark.parametrize("method", ["max", "histogram"])
def test_the_calibrator_is_that_of_the_method(method):
    assert type(quantizer(calib_method=method)._calibrator).__name__.lower() == f"{method}calibrator"


def test_a_quantizer_says_what_it_does():
    assert repr(quantizer()) == (
        "TensorQuantizer(8bit fake per-tensor amax=dynamic calibrator=MaxCalibrator scale=1.0 quant)"
    )
    axis = quantizer(axis=0, amax=[1.0, 2.5], unsigned=True, num_bits=4, if_quant=False, if_calib=True)
    assert repr(axis) == (
        "TensorQuantizer(unsigned 4bit fake axis=0 amax=[1.0000, 2.5000](2) "
        "calibrator=MaxCalibrator scale=1.0 calib)"
    )
    assert quantizer(learn_amax=True, amax=1.0, scale_amax=0.5).extra_repr() == (
        "8bit fake per-tensor amax=1.0000 *0.5 learned calibrator=MaxCalibrator scale=1.0 quant clip"
    )
    assert repr(quantizer(disabled=True)) == "TensorQuantizer(disabled)"
    assert "amax=?(2)" in repr(quantizer(amax=[1.0, 2.0]).to("meta"))
