import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

import fxquant
from fxquant.algorithms import AdaRound, Algorithm, Gptq, SequentialMse, parse
from fxquant.algorithms.layers import layers_of
from fxquant.algorithms.rounding import Rounding
from tests.algorithms.layer_cases import GRIDS, LAYERS, error, on_grid, prepared, stacked, weights

ALGORITHMS = {
    "gptq": Gptq(),
    "adaround": AdaRound(iterations=300, rate=0.03),
    "sequential-mse": SequentialMse(),
}
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())
every_rounding = pytest.mark.parametrize(
    "algorithm", [Gptq(), AdaRound(iterations=100)], ids=["gptq", "adaround"]
)


def assert_lowers(algorithm: Algorithm, kind: str, grid: str | None, most: float) -> None:
    gm, batches = prepared(kind, grid)
    before = copy.deepcopy(gm)
    (site,) = algorithm(gm, batches, progress=False).sites
    assert site.applied, site
    old, new = error(before, before, batches), error(gm, before, batches)
    assert new < most * old
    assert site.after < site.before


@every_algorithm
@pytest.mark.parametrize("kind", LAYERS)
def test_output_error_of_every_kind_of_layer_falls_where_channels_go_together(
    algorithm: Algorithm, kind: str
) -> None:
    assert_lowers(algorithm, kind, None, 0.95 if isinstance(algorithm, SequentialMse) else 0.7)


@every_algorithm
@pytest.mark.parametrize("grid", GRIDS)
def test_output_error_falls_on_every_grid(algorithm: Algorithm, grid: str) -> None:
    assert_lowers(algorithm, "linear", grid, 0.97 if isinstance(algorithm, SequentialMse) else 0.5)


@every_algorithm
def test_weights_that_lie_on_their_grid_are_left_alone(algorithm: Algorithm) -> None:
    gm, batches = prepared("linear")
    gm = on_grid(gm)
    before = weights(gm)
    options = {"corrects_input": False}  # a weight may make up for its input's error
    (site,) = type(algorithm)(**options)(gm, batches, progress=False).sites
    assert not site.applied
    assert torch.equal(weights(gm)[0], before[0])
    (layer,) = layers_of(gm, gm.graph.nodes)[0]
    assert layer.quantizer.is_overwrite_allowed()


@every_rounding
def test_rounded_weights_lie_on_their_grid_and_stay_there_when_calibrated_again(algorithm: Rounding) -> None:
    gm, batches = stacked()
    algorithm(gm, batches, progress=False)
    fxquant.calibrate(gm, batches, progress=False)
    for layer in layers_of(gm, gm.graph.nodes)[0]:
        rounded = layer.weight.detach()
        assert torch.equal(layer.quantizer(rounded), rounded)


def test_sequential_mse_leaves_weights_and_keeps_its_ranges_from_calibration() -> None:
    gm, batches = stacked()
    before, old = weights(gm), [layer.quantizer.get_max() for layer in layers_of(gm, gm.graph.nodes)[0]]
    SequentialMse()(gm, batches, progress=False)
    found = [layer.quantizer.get_max() for layer in layers_of(gm, gm.graph.nodes)[0]]
    fxquant.calibrate(gm, batches, progress=False)
    again = [layer.quantizer.get_max() for layer in layers_of(gm, gm.graph.nodes)[0]]
    assert all(torch.equal(one, other) for one, other in zip(before, weights(gm), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(old, found, strict=True))


def test_sequential_mse_leaves_a_range_that_is_given() -> None:
    gm, batches = prepared("linear")
    (layer,) = layers_of(gm, gm.graph.nodes)[0]
    layer.quantizer.allow_overwrite(False)
    before = layer.quantizer.get_max()
    (site,) = SequentialMse()(gm, batches, progress=False).sites
    assert site.reason == "the range of its weight is given"
    assert torch.equal(before, layer.quantizer.get_max())


def test_adaround_rounds_up_or_down_and_no_further() -> None:
    gm, batches = prepared("linear")
    (layer,) = layers_of(gm, gm.graph.nodes)[0]
    before = layer.weight.detach().clone()
    AdaRound(corrects_input=False)(gm, batches, progress=False)
    steps = (layer.weight.detach() - before) / layer.quantizer.get_scale()
    assert float(steps.detach().abs().max()) < 1 + 1e-4


@every_algorithm
def test_a_run_is_deterministic(algorithm: Algorithm) -> None:
    one, batches = stacked()
    other = copy.deepcopy(one)
    for gm in (one, other):
        algorithm(gm, batches, progress=False)
    assert torch.equal(one(batches[0]), other(batches[0]))
    assert all(torch.equal(*pair) for pair in zip(weights(one), weights(other), strict=True))


@every_algorithm
def test_an_error_in_the_middle_leaves_the_model_as_it_was(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    gm, batches = stacked()
    before = {
        name: value.clone() for name, value in gm.state_dict().items() if isinstance(value, torch.Tensor)
    }
    mend, count = type(algorithm).mend, []

    def failing(*args: object) -> None:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        mend(*args)

    monkeypatch.setattr(type(algorithm), "mend", failing)
    with pytest.raises(KeyboardInterrupt):
        algorithm(gm, batches, progress=False)
    after = gm.state_dict()
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    assert all(layer.quantizer.is_overwrite_allowed() for layer in layers_of(gm, gm.graph.nodes)[0])


@every_algorithm
def test_embeddings_and_shared_layers_are_declined_with_a_reason(algorithm: Algorithm) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc, self.head = nn.Embedding(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.head.weight = self.table.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.fc(self.fc(self.table(x))))

    torch.manual_seed(0)
    batch = torch.randint(0, 32, (4, 8))
    gm = fxquant.prepare(Model(), batch, target="onnxruntime:w4")
    fxquant.calibrate(gm, [batch], progress=False)
    before = {name: value.clone() for name, value in gm.named_parameters()}
    report = algorithm(gm, [batch], progress=False)
    assert report.applied == []
    assert {site.layer: site.reason for site in report.sites} == {
        "table": "embedding is no product of a weight and its input",
        "fc": "it is called more than once",
        "head": "its weight is read elsewhere, too",
    }
    assert [name for name, value in gm.named_parameters() if not torch.equal(value, before[name])] == []


@every_algorithm
def test_a_pickled_model_and_a_copy_give_the_same(algorithm: Algorithm) -> None:
    gm, batches = stacked()
    algorithm(gm, batches, progress=False)
    for copied in (copy.deepcopy(gm), pickle.loads(pickle.dumps(gm))):  # our own bytes
        assert torch.equal(copied(batches[0]), gm(batches[0]))


@every_algorithm
@pytest.mark.parametrize(
    ("target", "runtime"),
    [("onnxruntime:w4a8", "onnxruntime"), ("onnxruntime:w4", "onnxruntime-exact")],  # it rounds inputs of w4
    ids=["w4a8", "w4"],
)
def test_the_file_computes_what_the_simulation_does(
    algorithm: Algorithm, target: str, runtime: str, tmp_path: Path
) -> None:
    gm, batches = stacked(target)
    algorithm(gm, batches, progress=False)
    quantized = fxquant.convert(gm)
    files = fxquant.export(quantized, tmp_path)
    assert fxquant.verify(quantized, files, batches[:1], runtime=runtime).first_departure is None


@every_algorithm
def test_text_parses_back(algorithm: Algorithm) -> None:
    assert parse(str(algorithm)) == (algorithm,)


def test_later_layers_make_up_for_what_earlier_ones_lost() -> None:
    gm, batches = stacked()
    reference = copy.deepcopy(gm)
    without = copy.deepcopy(gm)
    Gptq(corrects_input=True)(gm, batches, progress=False)
    Gptq()(without, batches, progress=False)
    corrected, plain = error(gm, reference, batches), error(without, reference, batches)
    assert corrected < plain
