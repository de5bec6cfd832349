import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.algorithms import Algorithm, Awq, SmoothQuant, parse
from fxquant.algorithms.layers import layers_of
from fxquant.algorithms.scaling_layers import scaling_layer
from fxquant.graph import Stage, get_record
from tests.algorithms.layer_cases import Batches, error, in_float, stacked

# each with a target that has the input that it wants
CASES = {
    "smooth-quant": (SmoothQuant(), "onnxruntime"),
    "awq": (Awq(), "onnxruntime:w4"),
    "awq, 16 bits": (Awq(), "onnxruntime:w4a16"),
}
every_case = pytest.mark.parametrize(("algorithm", "target"), CASES.values(), ids=CASES.keys())
where = pytest.mark.parametrize("norm", [True, False], ids=["normalization", "product"])


def assert_same_function(one: fx.GraphModule, other: fx.GraphModule, batches: Batches) -> None:
    for batch in batches:
        torch.testing.assert_close(in_float(one, batch), in_float(other, batch), rtol=1e-5, atol=1e-5)


@every_case
@where
def test_error_falls_and_the_float_function_stays_where_few_channels_are_large(
    algorithm: Algorithm, target: str, norm: bool
) -> None:
    gm, batches = stacked(target, norm=norm)
    before = copy.deepcopy(gm)
    report = algorithm(gm, batches, progress=False)
    first = next(site for site in report.applied if site.layer == ("1" if norm else "0"))
    assert first.after < 0.9 * first.before
    assert_same_function(gm, before, batches)
    fxquant.calibrate(gm, batches, progress=False)
    old, new = error(before, before, batches), error(gm, before, batches)
    assert new < 0.9 * old


@every_case
def test_a_normalization_takes_the_division_and_the_graph_stays(algorithm: Algorithm, target: str) -> None:
    gm, batches = stacked(target, norm=True)
    before = [node.name for node in gm.graph.nodes]
    report = algorithm(gm, batches, progress=False)
    assert next(site for site in report.applied if site.layer == "1").reason.endswith(", in '0'")
    assert [node.name for node in gm.graph.nodes][: before.index("_1") + 1] == before[
        : before.index("_1") + 1
    ]


class _Residual(nn.Module):
    """A normalization that is read by two layers and, if asked for, by a sum."""

    def __init__(self, *, sums: bool) -> None:
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.sums = sums
        with torch.no_grad():
            self.norm.weight[::8] = 40.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        y = torch.relu(self.one(x)) + self.two(x)
        return y + x if self.sums else y


@every_case
@pytest.mark.parametrize("sums", [False, True], ids=["nothing else reads it", "a sum reads it, too"])
def test_layers_that_read_one_tensor_share_the_division(
    algorithm: Algorithm, target: str, sums: bool
) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(64, 32) for _ in range(2)]
    gm = fxquant.prepare(_Residual(sums=sums), batches[0], target=target)
    fxquant.calibrate(gm, batches, progress=False)
    before = copy.deepcopy(gm)
    (site,) = algorithm(gm, batches, progress=False).applied
    assert site.layer == "one, two"
    assert site.reason.endswith("a product before it" if sums else "in 'norm'")
    assert_same_function(gm, before, batches)


@every_case
def test_layers_whose_channels_are_alike_are_left_alone(algorithm: Algorithm, target: str) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(64, 32).sign() for _ in range(2)]
    model = nn.Sequential(nn.Linear(32, 8))
    with torch.no_grad():
        model[0].weight[0] = 0.5  # the largest that each channel meets
    gm = fxquant.prepare(model, batches[0], target=target)
    fxquant.calibrate(gm, batches, progress=False)
    before = gm(batches[0])
    report = algorithm(gm, batches, progress=False)
    assert [site.reason for site in report.sites] == ["no factors lower its error enough"]
    assert torch.equal(before, gm(batches[0]))


def test_what_an_algorithm_is_not_for_is_declined_with_a_reason() -> None:
    gm, batches = stacked("onnxruntime:w4")
    assert {site.reason for site in SmoothQuant()(gm, batches, progress=False).sites} == {
        "what it reads is not quantized"
    }
    gm, batches = stacked("onnxruntime:w4a8")
    assert {site.reason for site in Awq()(gm, batches, progress=False).sites} == {
        "what it reads is on a coarse grid"
    }
    for layer in layers_of(gm, gm.graph.nodes)[0]:
        layer.quantizer.allow_overwrite(False)
    assert {site.reason for site in SmoothQuant()(gm, batches, progress=False).sites} == {
        "the range of its weight is given, or its weight was rounded before"
    }


@pytest.mark.parametrize(
    ("algorithm", "target"), [CASES["smooth-quant"], CASES["awq"]], ids=["smooth-quant", "awq"]
)
def test_convolutions_are_divided_by_channel_and_grouped_ones_declined(
    algorithm: Algorithm, target: str
) -> None:
    torch.manual_seed(0)
    scale = torch.ones(8, 1, 1)
    scale[::4] = 30.0
    batches = [torch.randn(4, 8, 6, 6) * scale for _ in range(2)]
    model = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=2))
    gm = fxquant.prepare(model, batches[0], target="qualcomm:w4a16" if target.endswith("w4") else target)
    fxquant.calibrate(gm, batches, progress=False)
    before = copy.deepcopy(gm)
    report = algorithm(gm, batches, progress=False)
    assert [site.layer for site in report.applied] == ["0"]
    assert {site.layer: site.reason for site in report.declined}["1"] == "its channels are in groups"
    assert_same_function(gm, before, batches)


@every_case
@where
def test_an_error_leaves_model_and_graph_as_they_were(
    algorithm: Algorithm, target: str, norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gm, batches = stacked(target, norm=norm)
    code, output = gm.code, gm(batches[0])
    state = {key: value.clone() for key, value in gm.state_dict().items() if isinstance(value, torch.Tensor)}
    module = __import__(type(algorithm).__module__, fromlist=["divide_input"])
    divide = module.divide_input

    def failing(*args: object) -> str:
        divide(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "divide_input", failing)
    with pytest.raises(KeyboardInterrupt):
        algorithm(gm, batches, progress=False)
    after = gm.state_dict()
    assert {key for key, value in after.items() if isinstance(value, torch.Tensor)} == state.keys()
    assert [key for key, value in state.items() if not torch.equal(value, after[key])] == []
    assert gm.code == code
    assert torch.equal(gm(batches[0]), output)
    get_record(gm, Stage.PREPARED)
    fxquant.calibrate(gm, batches, progress=False)


@every_case
@where
def test_runs_copies_and_pickles_give_the_same(algorithm: Algorithm, target: str, norm: bool) -> None:
    gm, batches = stacked(target, norm=norm)
    other = copy.deepcopy(gm)
    for model in (gm, other):
        algorithm(model, batches, progress=False)
    expected = gm(batches[0])
    assert torch.equal(other(batches[0]), expected)
    assert torch.equal(copy.deepcopy(gm)(batches[0]), expected)
    assert torch.equal(pickle.loads(pickle.dumps(gm))(batches[0]), expected)


@every_case
@where
def test_the_file_computes_what_the_simulation_does(
    algorithm: Algorithm, target: str, norm: bool, tmp_path: Path
) -> None:
    gm, batches = stacked(target, norm=norm)
    algorithm(gm, batches, progress=False)
    fxquant.calibrate(gm, batches, progress=False)
    quantized = fxquant.convert(gm)
    runtime = "onnxruntime-exact" if target.endswith("w4") else "onnxruntime"  # which rounds inputs of w4
    files = fxquant.export(quantized, tmp_path)
    assert fxquant.verify(quantized, files, batches[:1], runtime=runtime).first_departure is None


@pytest.mark.parametrize(
    ("model", "is_found"),
    [
        (nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 4)), True),
        (nn.Sequential(nn.RMSNorm(16), nn.Linear(16, 4)), True),
        (nn.Sequential(nn.LayerNorm(16, elementwise_affine=False), nn.Linear(16, 4)), False),
        (nn.Sequential(nn.LayerNorm((8, 16)), nn.Linear(16, 4)), False),
        (nn.Sequential(nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4)), False),
    ],
    ids=["layer norm", "rms norm", "no parameters", "two dimensions", "an activation between"],
)
def test_only_layers_with_one_number_a_channel_take_a_division(model: nn.Module, is_found: bool) -> None:
    gm = fxquant.prepare(model, torch.randn(2, 8, 16), target="onnxruntime:w4")
    (layer,) = layers_of(gm, gm.graph.nodes)[0]
    assert (scaling_layer(gm, [layer]) is not None) is is_found


@pytest.mark.parametrize("algorithm", [SmoothQuant(steps=3), Awq(gain=0.2)], ids=["smooth-quant", "awq"])
def test_text_parses_back(algorithm: Algorithm) -> None:
    assert parse(str(algorithm)) == (algorithm,)
