import copy

import pytest
import torch
from torch import nn

import fxquant
from fxquant.calibration import CalibrationInterpreter, Offload, Signature, run_blockwise
from fxquant.calibration.offload import Boundary
from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.errors import BatchError, NonFiniteError, OffloadError, OptionError
from tests.networks import Encoder, FusedAttention, UNet


class Skipping(nn.Module):
    """Skips over several layers, one parameter at both ends, an integer input that the last layer needs."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids, rows):
        first = x = self.embedding(ids)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head((x + first)[rows])


class Branching(nn.Module):
    """Branches on a tensor's contents, so that it stays whole; what it calls has graphs of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.three(x) if x.sum() > 1e9 else self.two(self.one(x))


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.inner, self.after = nn.Linear(8, 8), Branching(), nn.Linear(8, 8)

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


def images(*shape):
    return [torch.randn(2, *shape) for _ in range(3)]


CASES = {
    "skips, shared parameter, integers": (
        Skipping,
        [(torch.randint(0, 20, (4, 5)), torch.tensor([3, 1, 0])) for _ in range(3)],
    ),
    "transformer": (Encoder, [torch.randint(0, 50, (2, 12)) for _ in range(3)]),
    "attention, writes in place": (FusedAttention, images(6, 16)),
    "u-net": (UNet, images(3, 16, 16)),
    "opaque layer": (Outer, images(8)),
}
OFFLOADS = {
    "cpu": Offload(block_bytes=1),
    "disk": Offload(activations="disk", block_bytes=1, device="cpu"),
    "larger blocks": Offload(block_bytes=2000),
}


@pytest.fixture(autouse=True)
def every_value_in_a_file(monkeypatch):
    monkeypatch.setattr("fxquant.calibration.offload._SMALL", 0)


def encodings(model):
    quantizers = [site.quantizer for site in (*activation_sites(model), *weight_sites(model))]
    return [(q.min.clone(), q.max.clone()) for q in quantizers if q.has_range()]


@pytest.mark.parametrize("target", ["onnxruntime", pytest.param("qualcomm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("offload", OFFLOADS.values(), ids=OFFLOADS)
@pytest.mark.parametrize(("build", "batches"), CASES.values(), ids=CASES)
def test_ranges_are_those_of_the_whole_model(build, batches, offload, target):
    whole = fxquant.prepare(build(), batches[0], target=target)
    blockwise = fxquant.prepare(build(), batches[0], target=target)
    blockwise.load_state_dict(whole.state_dict())
    fxquant.calibrate(whole, copy.deepcopy(batches))  # some models write into what they are given
    fxquant.calibrate(blockwise, copy.deepcopy(batches), offload=offload)
    pairs = list(zip(encodings(whole), encodings(blockwise), strict=True))
    assert len(pairs) > 3
    assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))


def test_ranges_of_a_traced_model_are_those_of_the_whole_one():
    batches = images(3, 16, 16)
    whole, blockwise = (fxquant.prepare(UNet(), target="onnxruntime") for _ in range(2))
    blockwise.load_state_dict(whole.state_dict())
    fxquant.calibrate(whole, batches)
    fxquant.calibrate(blockwise, iter(batches), offload=Offload(block_bytes=1))
    pairs = zip(encodings(whole), encodings(blockwise), strict=True)
    assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))


def test_each_block_runs_all_batches_in_order_before_the_next():
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), target="onnxruntime")
    ran = []

    def after(block, index):
        ran.append((block.nodes[-1].name, index))
        return False

    runner = CalibrationInterpreter(model)
    assert run_blockwise(model, runner, ([batch] for batch in images(8)), Offload(block_bytes=1), after) == 3
    names = list(dict.fromkeys(name for name, _ in ran))
    assert ran == [(name, index) for name in names for index in range(3)]
    assert len(names) == 3
    assert runner.env == {}


def test_a_block_runs_again_on_the_same_values_where_that_is_wanted():
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), target="onnxruntime")
    shown = {}
    runner = CalibrationInterpreter(model, lambda node, value: shown.setdefault(node, []).append(value))
    answers = iter([False, True, False, True, True, False])
    offload = Offload(block_bytes=1)
    assert run_blockwise(model, runner, [[torch.randn(2, 8)]], offload, lambda *_: next(answers, False)) == 1
    assert sorted(map(len, shown.values())) != [1] * len(shown)
    assert all(torch.equal(value, values[0]) for values in shown.values() for value in values)


def test_parameters_are_the_same_objects_afterwards():
    model = fxquant.prepare(
        Skipping(), CASES["skips, shared parameter, integers"][1][0], target="onnxruntime"
    )
    before = dict(model.named_parameters(remove_duplicate=False))
    batches = CASES["skips, shared parameter, integers"][1]
    fxquant.calibrate(model, batches, offload=Offload(device="cpu", block_bytes=1))
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(after[name] is parameter for name, parameter in before.items())


def test_blocks_run_where_the_device_says_and_parameters_come_back(monkeypatch):
    monkeypatch.setattr(Boundary, "_kept", lambda boundary, tensor: tensor)  # meta tensors cannot be kept
    model = fxquant.prepare(Encoder(), torch.randint(0, 50, (2, 12)), target="onnxruntime")
    signature, devices = Signature(model), set()
    calls = [list(signature.bind(signature.call(torch.randint(0, 50, (2, 12)))).values())]

    class Watching(CalibrationInterpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                devices.add(value.device.type)
            return value

    before = dict(model.named_parameters())
    assert run_blockwise(model, Watching(model), calls, Offload(block_bytes=1, device="meta")) == 1
    assert devices == {"meta"}
    assert all(tensor is before[name] for name, tensor in model.named_parameters())


def test_files_are_gone_afterwards(tmp_path):
    model = fxquant.prepare(UNet(), target="onnxruntime")
    offload = Offload(activations="disk", folder=tmp_path / "new", block_bytes=1)
    seen = []

    def after(block, index):
        seen.append(len(list((tmp_path / "new").rglob("*.pt"))))
        return False

    calls = ([batch] for batch in images(3, 16, 16))
    run_blockwise(model, CalibrationInterpreter(model), calls, offload, after)
    assert max(seen) >= 3
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=["interrupt", "error"])
def test_files_are_gone_after_an_error(tmp_path, error):
    model = fxquant.prepare(UNet(), target="onnxruntime")
    offload = Offload(activations="disk", folder=tmp_path, block_bytes=1)
    steps = iter(range(5))

    def after(block, index):
        if next(steps, None) is None:
            raise error
        return False

    calls = ([batch] for batch in images(3, 16, 16))
    with pytest.raises(error):
        run_blockwise(model, CalibrationInterpreter(model), calls, offload, after)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse", "moving_average"])
def test_every_method_finds_the_ranges_of_the_whole_model(method):
    batches = [torch.randint(0, 50, (2, 12)) for _ in range(3)]
    whole, blockwise = (fxquant.prepare(Encoder(), batches[0], target="onnxruntime") for _ in range(2))
    blockwise.load_state_dict(whole.state_dict())
    fxquant.calibrate(whole, batches, method)
    statistics = fxquant.calibrate(blockwise, batches, method, offload=Offload(block_bytes=1))
    pairs = zip(encodings(whole), encodings(blockwise), strict=True)
    assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))
    assert statistics.num_batches == 3


def test_what_was_seen_before_is_passed_over(tmp_path):
    batches = images(3, 16, 16)
    model = fxquant.prepare(UNet(), target="onnxruntime")
    offload, path = Offload(block_bytes=1), tmp_path / "seen"
    first = fxquant.calibrate(model, batches[:2], checkpoint=path, offload=offload)
    both = fxquant.calibrate(model, batches, checkpoint=path, offload=offload)
    assert (first.num_batches, both.num_batches) == (2, 3)
    before = encodings(model)
    fxquant.calibrate(model, batches)
    pairs = zip(before, encodings(model), strict=True)
    assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))


def test_a_batch_that_does_not_fit_is_an_error_that_names_the_layer(tmp_path):
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), target="onnxruntime")
    offload = Offload(activations="disk", folder=tmp_path, block_bytes=1)
    with pytest.raises(BatchError, match="rejects") as caught:
        fxquant.calibrate(model, [torch.randn(2, 8), torch.randn(2, 7)], offload=offload)
    assert caught.value.layer == "0"
    assert list(tmp_path.iterdir()) == []


def test_no_batch_is_an_error():
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8)), target="onnxruntime")
    with pytest.raises(BatchError, match="no batch"):
        fxquant.calibrate(model, [], offload=Offload())


def test_values_that_are_not_finite_are_an_error():
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), target="onnxruntime")
    batch = torch.full((2, 8), torch.nan)
    with pytest.raises(NonFiniteError, match="batch 1"):
        fxquant.calibrate(model, [torch.randn(2, 8), batch], offload=Offload(block_bytes=1))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    model = fxquant.prepare(nn.Sequential(nn.Linear(8, 8)), target="onnxruntime")
    offload = Offload(activations="disk", folder=tmp_path / "file")
    with pytest.raises(OffloadError, match="cannot be kept on disk"):
        fxquant.calibrate(model, [torch.randn(2, 8)], offload=offload)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"activations": "tape"}, "'tape'"), ({"block_bytes": 0}, "0 bytes")],
    ids=["activations", "block_bytes"],
)
def test_options_are_checked(options, message):
    with pytest.raises(OptionError, match=message):
        Offload(**options)
