import copy
import json

import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import fx, nn

import fxquant
from fxquant.errors import EncodingsError, ModelTypeError
from fxquant.export import VERSIONS, encodings_json, load_into
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.affine.exact_encoding import set_exactly
from tests import digits
from tests.export import documents
from tests.networks import Functional, UNet
from tests.quantization.strategies import encodings, shaped_encodings

IMAGES = [torch.linspace(-1.0, 2.0, 3 * 3 * 16 * 16).reshape(3, 3, 16, 16) * scale for scale in (1.0, 0.3)]


def constants(path):
    return {
        t.name: (t.data_type, onnx.numpy_helper.to_array(t).tobytes())
        for t in onnx.load(path).graph.initializer
    }


def spoiled(path, change):
    """Change the document of a file in place."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def quantizing(encoding):
    """Return a graph that quantizes its input, or a constant in blocks, on a grid; the range is not set."""
    graph, root = fx.Graph(), nn.Module()
    root.quantizer = QuantizeDequantize(
        tuple(encoding.scale.shape),
        encoding.qmin,
        encoding.qmax,
        encoding.symmetry,
        block_size=encoding.block_size,
    )
    root.constant = nn.Parameter(torch.zeros(3, 8))
    source = graph.get_attr("constant") if encoding.block_size else graph.placeholder("x")
    graph.output(graph.call_module("quantizer", (source,)))
    return fx.GraphModule(root, graph)


def entry_of(document, name):
    return next(
        entry
        for section in ("activation_encodings", "param_encodings", "encodings")
        for entry in document.get(section, [])
        if entry["name"] == name
    )


@pytest.fixture
def small():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()
    prepared = fxquant.prepare(model, target="onnxruntime")
    fxquant.calibrate(prepared, IMAGES)
    return model, prepared


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime", "generic"])
@pytest.mark.parametrize("build", [UNet, Functional])
def test_loaded_encodings_are_those_of_the_file_to_the_last_bit(build, target, version, tmp_path):
    model = build().eval()
    prepared, fresh = fxquant.prepare(model, target=target), fxquant.prepare(model, target=target)
    fxquant.calibrate(prepared, IMAGES)
    quantized = fxquant.convert(prepared)
    fxquant.load_encodings(fresh, documents.written(quantized, tmp_path / "file", version))
    assert encodings_json(fxquant.convert(fresh), version) == encodings_json(quantized, version)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "version"), [("tensorrt", "0.6.1"), ("onnxruntime", "2.0.0")])
def test_loaded_encodings_give_the_same_files_to_the_last_bit(target, version, tmp_path):
    model = UNet().eval()
    prepared, fresh = fxquant.prepare(model, target=target), fxquant.prepare(model, target=target)
    fxquant.calibrate(prepared, IMAGES)
    first = fxquant.export(fxquant.convert(prepared), tmp_path / "1", encodings_version=version)
    fxquant.load_encodings(fresh, first.encodings)
    second = fxquant.export(fxquant.convert(fresh), tmp_path / "2", IMAGES[0], encodings_version=version)
    assert second.encodings.read_bytes() == first.encodings.read_bytes()
    assert constants(second.onnx) == constants(first.onnx)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(encoding=encodings(32) | shaped_encodings((3, 1)) | shaped_encodings((3, 2), block_size=(1, 4)))
def test_any_encoding_comes_back_from_a_file_to_the_last_bit(version, tmp_path, encoding):
    first, second = quantizing(encoding), quantizing(encoding)
    set_exactly(first.quantizer, encoding.scale, encoding.offset)
    load_into(second, documents.written(first, tmp_path / "file", version))
    found = second.quantizer.get_encodings()
    assert torch.equal(found.scale, encoding.scale)
    assert torch.equal(found.offset, encoding.offset)
    assert (found.qmin, found.qmax, found.symmetry) == (encoding.qmin, encoding.qmax, encoding.symmetry)


@pytest.mark.slow
@pytest.mark.parametrize("target", digits.TARGETS)
def test_loaded_encodings_give_the_same_simulation(target):
    fresh = fxquant.prepare(digits.float_model(), target=target)
    fxquant.load_encodings(fresh, digits.files(target).encodings)
    images = digits.split().test_images[:64]
    with torch.no_grad():
        assert torch.equal(fxquant.convert(fresh)(images), digits.quantized(target)(images))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", documents.KINDS)
def test_blocks_and_groups_are_loaded_to_the_last_bit(kind, version, tmp_path):
    first, second = documents.calibrated(kind), documents.calibrated(kind, seed=1)
    wanted = encodings_json(first, version)
    assert encodings_json(second, version) != wanted
    load_into(second, documents.written(first, tmp_path / "file", version))
    assert encodings_json(second, version) == wanted


def test_weights_that_were_widened_load_as_they_are(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    with torch.no_grad():
        model[0].bias[1] = 1e6  # beyond int32 at scale_input * scale_weight
    prepared, fresh = (fxquant.prepare(model, target="onnxruntime") for _ in range(2))
    fxquant.calibrate(prepared, IMAGES)
    quantized = fxquant.convert(prepared)
    first = encodings_json(quantized, "2.0.0")
    scales = [
        entry_of(document, "0.weight")["y_scale"] for document in (first, encodings_json(prepared, "2.0.0"))
    ]
    assert scales[0][1] > scales[1][1]
    fxquant.load_encodings(fresh, documents.written(quantized, tmp_path / "file", "2.0.0"))
    assert encodings_json(fxquant.convert(fresh), "2.0.0") == first


def test_scale_that_no_range_gives_is_loaded_to_the_last_bit(small, tmp_path):
    model, prepared = small
    path = documents.written(prepared, tmp_path / "file")
    scales = torch.linspace(0.01, 0.02, 4)
    spoiled(path, lambda document: entry_of(document, "0.weight").update(scale=scales.tolist()))
    fresh = fxquant.prepare(model, target="onnxruntime")
    fxquant.load_encodings(fresh, path)
    found = fresh.get_submodule("0").param_quantizers["weight"].get_scale()
    assert torch.equal(found.flatten(), scales)


def test_later_calibration_changes_what_may_be_overwritten(small, tmp_path):
    model, prepared = small
    path, before = documents.written(prepared, tmp_path / "file"), encodings_json(prepared)
    for allowed in (False, True):
        fresh = fxquant.prepare(model, target="onnxruntime")
        fxquant.load_encodings(fresh, path, allow_overwrite=allowed)
        fxquant.calibrate(fresh, [image * 10.0 for image in IMAGES])
        assert (encodings_json(fresh) == before) is not allowed


def test_range_that_an_op_has_by_itself_stays_fixed(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(dim=1), nn.Conv2d(4, 2, 1)).eval()
    prepared, fresh = (fxquant.prepare(model, target="onnxruntime") for _ in range(2))
    fxquant.calibrate(prepared, IMAGES)
    fxquant.load_encodings(fresh, documents.written(prepared, tmp_path / "file"))
    fxquant.calibrate(fresh, IMAGES)
    fixed = [q for q in fresh.modules() if isinstance(q, QuantizeDequantize) and not q.is_overwrite_allowed()]
    assert len(fixed) == 1
    assert entry_of(encodings_json(fresh), "1") == entry_of(encodings_json(prepared), "1")


def test_file_without_a_tensor_of_the_model_is_refused_unless_partial(small, tmp_path):
    model, prepared = small
    path = documents.written(prepared, tmp_path / "file")
    spoiled(path, lambda document: document["param_encodings"].pop(0))
    fresh = fxquant.prepare(model, target="onnxruntime")
    with pytest.raises(EncodingsError, match=r"has no entry for '0\.weight'.*partial=True"):
        fxquant.load_encodings(fresh, path)
    fxquant.load_encodings(fresh, path, partial=True)
    assert not fresh.get_submodule("0").param_quantizers["weight"].is_initialized()
    assert fresh.get_submodule("3").param_quantizers["weight"].is_initialized()


def test_file_with_a_tensor_of_another_model_is_refused_unless_not_strict(small, tmp_path):
    model, prepared = small
    path = documents.written(prepared, tmp_path / "file")
    spoiled(path, lambda document: document["param_encodings"][0].update(name="conv9.weight"))
    fresh = fxquant.prepare(model, target="onnxruntime")
    with pytest.raises(EncodingsError, match=r"quantizes no tensor 'conv9\.weight'.*strict=False"):
        fxquant.load_encodings(fresh, path, partial=True)
    fxquant.load_encodings(fresh, path, strict=False, partial=True)
    assert fresh.get_submodule("3").param_quantizers["weight"].is_initialized()


def test_int32_bias_is_passed_over_and_another_is_not(small, tmp_path):
    model, prepared = small
    path = documents.written(fxquant.convert(prepared), tmp_path / "file", "2.0.0")
    fresh = fxquant.prepare(model, target="onnxruntime")
    fxquant.load_encodings(fresh, path)
    assert encodings_json(fresh) == encodings_json(prepared)
    spoiled(path, lambda document: entry_of(document, "0.bias").update(output_dtype="int8"))
    with pytest.raises(EncodingsError, match=r"quantizes no tensor '0\.bias'"):
        fxquant.load_encodings(fresh, path)


MISFITS = {
    "channels": (lambda e: e["0.weight"].update(scale=[0.1] * 3, offset=[-128] * 3), "0.weight.*3 scale"),
    "one_channel": (
        lambda e: e["0.weight"].update(scale=[0.1], offset=[-128], enc_type="PER_TENSOR"),
        "0.weight.*1 scale",
    ),
    "bits": (lambda e: e["input"].update(bw=16), "'input'.*16 bits"),
    "float": (
        lambda e: (
            [e["input"].pop(key) for key in ("scale", "offset", "is_sym")]
            and e["input"].update(dtype="FLOAT", bw=16)
        ),
        "'input'.*float type",
    ),
    "asymmetric_weight": (
        lambda e: e["0.weight"].update(offset=[-100] * 4, is_sym=False),
        "0.weight.*offset",
    ),
    "zero_outside": (lambda e: e["input"].update(offset=[-300]), "'input'.*offset"),
    "scale_too_small": (lambda e: e["input"].update(scale=[1e-30]), "'input'.*scale"),
    "shift": (lambda e: e["input"].update(zero_point_shift=[0.5]), "'input'.*shifted"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_entry_that_does_not_fit_the_model_is_refused_and_nothing_changes(change, message, small, tmp_path):
    _, prepared = small
    path = documents.written(prepared, tmp_path / "file")

    def spoil(document):
        for entry in document["activation_encodings"] + document["param_encodings"]:
            entry["scale"] = [scale * 2 for scale in entry["scale"]]
        change(
            {entry["name"]: entry for entry in document["activation_encodings"] + document["param_encodings"]}
        )

    before = documents.numbers_of(prepared)
    with pytest.raises(EncodingsError, match=message) as raised:
        fxquant.load_encodings(prepared, spoiled(path, spoil))
    assert str(path) in str(raised.value)
    assert raised.value.remedy
    after = documents.numbers_of(prepared)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"axis": 1}, "along axis 1"), ({"y_zero_point": [1, 0, 0, 0]}, "offset")],
    ids=["axis", "zero_point"],
)
def test_entry_of_version_2_that_does_not_fit_is_refused(change, message, small, tmp_path):
    _, prepared = small
    path = documents.written(prepared, tmp_path / "file", "2.0.0")
    spoiled(path, lambda document: entry_of(document, "0.weight").update(change))
    with pytest.raises(EncodingsError, match=message):
        fxquant.load_encodings(prepared, path)


def test_tensors_on_one_grid_need_equal_entries(tmp_path):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.pool, self.head = nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.head(self.pool(self.one(x)))

    prepared = fxquant.prepare(Pooled().eval(), target="onnxruntime")
    fxquant.calibrate(prepared, IMAGES)
    path = documents.written(prepared, tmp_path / "file")
    spoiled(path, lambda document: entry_of(document, "one").update(scale=[0.5]))
    with pytest.raises(EncodingsError, match="'one' and 'pool' lie on one grid"):
        fxquant.load_encodings(prepared, path)


def test_quantized_model_takes_no_encodings(small, tmp_path):
    _, prepared = small
    path = documents.written(prepared, tmp_path / "file")
    with pytest.raises(ModelTypeError, match="prepared"):
        fxquant.load_encodings(fxquant.convert(prepared), path)


def test_model_with_loaded_encodings_can_be_copied_trained_and_saved(small, tmp_path):
    model, prepared = small
    path = documents.written(prepared, tmp_path / "file")
    spoiled(path, lambda document: entry_of(document, "input").update(scale=[0.0157]))
    fresh = fxquant.prepare(model, target="onnxruntime")
    fxquant.load_encodings(fresh, path)
    copied = copy.deepcopy(fresh)
    assert encodings_json(copied) == encodings_json(fresh)
    copied(IMAGES[0]).sum().backward()
    quantizers = [q for q in copied.modules() if isinstance(q, QuantizeDequantize)]
    assert quantizers
    assert all(any(p.grad is not None for p in q.parameters()) for q in quantizers)
