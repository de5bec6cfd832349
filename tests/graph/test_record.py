import copy
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.errors import ModelTypeError
from fxquant.graph import Example, ModelRecord, Report, Stage, capture, get_record, set_record
from fxquant.graph.annotations import LAYER, TENSOR
from fxquant.graph.kept_annotations import restore_annotations, save_annotations


class Block(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(x))


def recorded(stage: Stage = Stage.PREPARED) -> fx.GraphModule:
    gm = capture(Net())
    gm.graph.find_nodes(op="call_module")[0].meta[TENSOR] = "fc"
    set_record(gm, ModelRecord(stage=stage, target="tensorrt", pipeline="canonicalize", report=Report()))
    return gm


def notes(gm: fx.GraphModule) -> list[tuple[object, object]]:
    return [(node.meta.get(LAYER), node.meta.get(TENSOR)) for node in gm.graph.nodes]


@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.value)
def test_record_is_found_at_its_stage(stage: Stage) -> None:
    record = get_record(recorded(stage), stage)
    assert (record.stage, record.target, record.pipeline) == (stage, "tensorrt", "canonicalize")


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        pytest.param(recorded(Stage.PREPARED), Stage.QUANTIZED, r"not a prepared model.*convert", id="early"),
        pytest.param(recorded(Stage.QUANTIZED), Stage.PREPARED, r"not a quantized model.*prepare", id="late"),
        pytest.param(capture(Net()), Stage.PREPARED, r"not Net.*prepare", id="captured only"),
        pytest.param(Net(), Stage.PREPARED, r"not Net.*prepare", id="float model"),
        pytest.param(None, Stage.PREPARED, r"not NoneType.*prepare", id="nothing"),
    ],
)
def test_model_at_another_stage_is_refused(given: object, wanted: Stage, message: str) -> None:
    with pytest.raises(ModelTypeError, match=message):
        get_record(given, wanted)


def test_record_travels_with_a_copy() -> None:
    gm = recorded()
    copied = copy.deepcopy(gm)
    assert get_record(copied, Stage.PREPARED).pipeline == "canonicalize"
    assert notes(copied) == notes(gm)


def test_record_and_notes_survive_pickling() -> None:
    gm = recorded()
    loaded = pickle.loads(pickle.dumps(gm))
    assert get_record(loaded, Stage.PREPARED).target == "tensorrt"
    assert notes(loaded) == notes(gm)


class SlicesBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.arange(16.0).reshape(1, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positions: torch.Tensor = self.positions[:, : x.shape[1]]  # type: ignore[index]  # a buffer
        return x + positions * positions


def test_recorded_graph_that_slices_a_buffer_by_a_size_survives_pickling() -> None:
    gm = capture(SlicesBuffer(), Example(args=(torch.zeros(2, 5),)))
    loaded = pickle.loads(pickle.dumps(gm))
    x = torch.randn(2, 7)
    assert torch.equal(loaded(x), gm(x))
    assert len(loaded.graph.nodes) == len(gm.graph.nodes)  # notes are restored by position


def test_notes_of_another_graph_are_not_restored() -> None:
    saved = save_annotations(capture(nn.Sequential(nn.Linear(2, 2))))
    gm = pickle.loads(pickle.dumps(capture(Net())))
    restore_annotations(gm, saved)
    assert notes(gm) == [(None, None)] * len(gm.graph.nodes)


def test_notes_on_a_graph_are_not_overwritten() -> None:
    gm = capture(Net())
    stale = tuple((node.name, {LAYER: "stale"}) for node in gm.graph.nodes)
    before = notes(gm)
    restore_annotations(gm, stale)
    assert notes(gm) == before


def test_example_lists_its_tensors_in_order() -> None:
    x, y = torch.zeros(1), torch.ones(1)
    assert Example(args=(x, 3), kwargs={"flag": True, "y": y}).tensors() == [x, y]
