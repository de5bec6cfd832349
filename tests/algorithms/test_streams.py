from typing import Any

import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.algorithms.layers import layers_of
from fxquant.algorithms.streams import SINGLE, Streams
from fxquant.calibration import CalibrationInterpreter, Offload, Signature, calls_of
from tests.zoo import small_models

WITHOUT_LAYERS = ("reuse", "functional")  # called twice; the weights are too small for the target


class _Kept(fx.Interpreter):
    """Keeps what every node gives."""

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.kept: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.kept[n] = super().run_node(n)
        return self.kept[n]


class _KeptInFloat(CalibrationInterpreter):
    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm)
        self.kept: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.kept[n] = super().run_node(n)
        return self.kept[n]


def prepared(name: str, batches: int = 3) -> tuple[fx.GraphModule, list[Any]]:
    torch.manual_seed(0)
    model, inputs = small_models.build(name)
    gm = fxquant.prepare(model, inputs, target="onnxruntime")
    data = [
        tuple(torch.randn_like(x) if x.is_floating_point() else x for x in inputs) for _ in range(batches)
    ]
    fxquant.calibrate(gm, data, progress=False)
    return gm, list(calls_of(data, Signature(gm)))


def whole(gm: fx.GraphModule, calls: list[Any], *, is_quantized: bool) -> list[dict[fx.Node, Any]]:
    """Run the whole model on each call; return what every node gave."""
    found = []
    for call in calls:
        args, kwargs = call.copied()
        values = list(Signature(gm).bind(type(call)(args=args, kwargs=kwargs)).values())
        runner = _Kept(gm) if is_quantized else _KeptInFloat(gm)
        with torch.no_grad():
            runner.run(*values, enable_io_processing=False)
        found.append(runner.kept)
    return found


@pytest.mark.parametrize(
    "offload", [SINGLE, Offload(), Offload(block_bytes=2000)], ids=["single", "all", "some"]
)
@pytest.mark.parametrize("name", small_models.NAMES)
def test_every_layer_is_given_what_it_gets_when_the_model_runs_as_a_whole(
    name: str, offload: Offload
) -> None:
    gm, calls = prepared(name)
    expected = {mode: whole(gm, calls, is_quantized=mode) for mode in (True, False)}
    seen = 0
    for stage in Streams(gm, calls, offload).stages():
        for layer in layers_of(gm, stage.block.nodes)[0]:
            for mode in (True, False):
                for index, value in enumerate(stage.values(layer.input, is_quantized=mode)):
                    torch.testing.assert_close(value, expected[mode][index][layer.input], atol=0.0, rtol=0.0)
                for index, value in enumerate(stage.values(layer.node, is_quantized=mode)):
                    torch.testing.assert_close(value, expected[mode][index][layer.node], atol=0.0, rtol=0.0)
            seen += 1
    assert seen == len(layers_of(gm, gm.graph.nodes)[0])
    assert seen > 0 or name in WITHOUT_LAYERS


def test_single_blocks_hold_one_layer_each() -> None:
    gm, calls = prepared("residual")
    counts = [len(layers_of(gm, stage.block.nodes)[0]) for stage in Streams(gm, calls).stages()]
    assert max(counts) == 1


def test_later_blocks_see_what_was_done_to_earlier_ones_in_the_quantized_stream_only() -> None:
    gm, calls = prepared("residual", batches=1)
    floats, changed = whole(gm, calls, is_quantized=False), None
    for stage in Streams(gm, calls).stages():
        for layer in layers_of(gm, stage.block.nodes)[0]:
            if changed is None:
                layer.weight.data.mul_(1.5)
                changed = layer
            (value,) = stage.values(layer.input, is_quantized=False)
            torch.testing.assert_close(value, floats[0][layer.input], atol=0.0, rtol=0.0)
            if layer is not changed:
                (value,) = stage.values(layer.input, is_quantized=True)
                now = whole(gm, calls, is_quantized=True)[0][layer.input]
                torch.testing.assert_close(value, now, atol=0.0, rtol=0.0)


def test_nothing_waits_on_disk_after_the_end(tmp_path: Any) -> None:
    gm, calls = prepared("residual")
    stages = Streams(gm, calls, Offload(activations="disk", folder=tmp_path, block_bytes=1)).stages()
    next(stages)
    stages.close()
    assert list(tmp_path.iterdir()) == []


def test_batch_that_the_model_rejects_is_named() -> None:
    gm, calls = prepared("residual", batches=1)
    bad = type(calls[0])(args=(torch.ones(1, 3, 8, 8),))
    with pytest.raises(fxquant.errors.BatchError, match="batch 1"):
        list(Streams(gm, [*calls, bad]).stages())


def test_layer_that_is_called_twice_is_declined() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.sigmoid(self.fc(x)))

    gm = fxquant.prepare(Twice(), torch.ones(1, 4), target="onnxruntime")
    layers, declined = layers_of(gm, gm.graph.nodes)
    assert layers == []
    assert set(declined.values()) == {"it is called more than once"}
