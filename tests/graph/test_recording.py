"""Recording: any forward that runs becomes a graph that gives the same on other inputs."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from fxquant.errors import CaptureError, GuardError
from fxquant.graph import Example, capture, capture_notes, coverage_of, graph_text, graphs_of
from fxquant.graph.structure import tensors_in
from tests.graph import forwards, hard_forwards  # noqa: F401  # the latter registers cases
from tests.graph.forwards import CASES, IMAGE, ROWS, STEPS

# float32 through a few small layers; a batch of another size takes other kernels
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
]


def build(name: str) -> tuple[nn.Module, Example]:
    make, (args, kwargs) = CASES[name]
    torch.manual_seed(0)
    return make().eval(), Example(args=args, kwargs=kwargs)


def like(example: Example, change: Any) -> Example:
    def changed(value: Any) -> Any:
        if isinstance(value, forwards.Pair):
            return forwards.Pair(changed(value.first), [changed(item) for item in value.others])
        return change(value) if isinstance(value, torch.Tensor) else value

    args, kwargs = pytree.tree_map(changed, (example.args, example.kwargs))
    return Example(args=args, kwargs=kwargs)


def given(model: nn.Module, example: Example) -> list[torch.Tensor]:
    """Return the tensors that a model gives, its buffers as they were afterwards."""
    state = copy.deepcopy(model.state_dict())
    args, kwargs = example.copied()
    torch.manual_seed(1)
    with torch.no_grad():
        tensors = tensors_in(model(*args, **kwargs))
    model.load_state_dict(state)
    return tensors


INPUTS = {
    "the example": lambda tensor: tensor,
    "other values": lambda tensor: torch.randn_like(tensor),
    "another batch size": lambda tensor: torch.randn_like(tensor)[:1],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("inputs", INPUTS)
def test_graph_gives_what_the_model_gives(name: str, inputs: str) -> None:
    model, example = build(name)
    torch.manual_seed(2)
    other = like(example, INPUTS[inputs])
    torch.testing.assert_close(given(capture(model, example), other), given(model, other), **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_capture_leaves_the_model_as_it_is(name: str) -> None:
    model, example = build(name)
    before, inputs = given(model, example), copy.deepcopy(example)
    state = copy.deepcopy(dict(model.state_dict()))
    capture(model.train(), example)
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)
    torch.testing.assert_close(tensors_in(example.args), tensors_in(inputs.args), rtol=0, atol=0)
    torch.testing.assert_close(given(model.eval(), example), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_graph_survives_copies_and_pickles(name: str) -> None:
    model, example = build(name)
    gm = capture(model, example)
    wanted = given(gm, example)
    torch.testing.assert_close(given(copy.deepcopy(gm), example), wanted, rtol=0, atol=0)
    torch.testing.assert_close(given(pickle.loads(pickle.dumps(gm)), example), wanted, rtol=0, atol=0)


OPAQUE = {
    "BranchesOnContents": ("", "(__bool__)", "if y.sum() > 0:"),
    "HoldsABranch": ("inner", "(__bool__)", "if y.sum() > 0:"),
    "ScalesByItem": ("", "(item)", "return self.fc(x) * x.max().item()"),
    "GoesThroughNumpy": ("", "(numpy)", "return self.out(torch.from_numpy(np.sin("),
    "LoopsOverTheBatch": ("inner", "batch size", ""),
    "CallsALayerTwiceFromABranch": ("", "(__bool__)", "if x.sum() > 100:"),
    "MapsAFunction": ("", "torch.func", "torch.vmap"),
    "HoldsAHiddenCall": ("inner", "outside torch", ""),
    "AsksForClassesAndMethods": ("", "(__bool__)", "if x.sum() > 1e9:"),
    "ChecksTwoThings": ("", "(__bool__)", "if x.max() > 0.5 and x.min() > 5:"),
}


@pytest.mark.parametrize("name", CASES)
def test_only_a_layer_that_no_graph_can_say_stays_whole(name: str) -> None:
    notes = capture_notes(capture(*build(name)))
    found = {(r.layer, True) for r in notes.opaque}
    assert found == ({(OPAQUE[name][0], True)} if name in OPAQUE else set())
    assert notes.failure == ""


@pytest.mark.parametrize("name", OPAQUE)
def test_a_whole_layer_is_named_with_the_reason_and_the_line(name: str) -> None:
    (resistance,) = capture_notes(capture(*build(name))).opaque
    _, reason, line = OPAQUE[name]
    assert reason in resistance.reason
    assert line in resistance.line
    assert not line or "forwards.py" in resistance.line


@pytest.mark.parametrize("name", OPAQUE)
def test_all_multiply_accumulates_around_a_whole_layer_are_counted(name: str) -> None:
    model, example = build(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example.args, **example.kwargs)
    assert coverage_of(capture(model, example)).macs == counter.get_total_flops() // 2


def test_what_a_whole_layer_calls_has_graphs_of_its_own() -> None:
    gm = capture(*build("HoldsABranch"))
    assert [capture_notes(graph).path for graph in graphs_of(gm)] == ["", "inner.fc", "inner.out"]


def test_a_recorded_graph_reads_like_a_traced_one(golden: Any) -> None:
    golden(graph_text(capture(*build("Asserts"))), "graph/recording/asserts")
    golden(graph_text(capture(*build("ComputesSizes"))), "graph/recording/computes_sizes")
    golden(graph_text(capture(*build("WritesBuffers"))), "graph/recording/writes_buffers")


def test_a_loop_count_is_a_guard_that_names_the_value_and_the_line() -> None:
    gm = capture(*build("LoopsOverTime"))
    (guard,) = capture_notes(gm).guards
    assert (guard.what, guard.value) == ("x.size(1)", 5)
    assert "for step in range(x.shape[1]):" in guard.line
    with pytest.raises(GuardError, match=r"captured with x\.size\(1\) == 5, but here it is 3"):
        gm(STEPS[:, :3])


def test_a_flag_is_a_guard() -> None:
    model, example = build("TakesContainers")
    gm = capture(model, example)
    with pytest.raises(GuardError, match="captured with flag == True, but here it is False"):
        gm(*example.args, flag=False)


def test_an_assert_on_contents_goes_on_being_checked() -> None:
    gm = capture(*build("Asserts"))
    with pytest.raises(GuardError, match="isfinite"):
        gm(torch.full_like(ROWS, float("nan")))


def test_a_size_stays_dynamic_where_no_python_code_fixes_it() -> None:
    model, example = build("ComputesSizes")
    other = Example(args=(torch.randn(1, 3, 12, 9),))
    torch.testing.assert_close(given(capture(model, example), other), given(model, other), **CLOSE)


def test_a_size_that_python_computed_with_unseen_is_a_guard() -> None:
    gm = capture(*build("HidesASize"))
    assert [str(guard) for guard in capture_notes(gm).guards] == [
        "x.size(1) == 3",
        "x.size(2) == 9",
        "x.size(3) == 9",
    ]
    with pytest.raises(GuardError, match=r"x\.size\(2\) == 9, but here it is 5"):
        gm(IMAGE[:, :, :5])


class LooksUpTheBatchSize(nn.Module):
    """Python computes with the batch size unseen."""

    def forward(self, x):
        return x * [1, 2, 3, 4, 5][x.shape[0]]


def test_a_batch_size_that_python_computed_with_unseen_is_a_guard() -> None:
    gm = capture(LooksUpTheBatchSize(), Example(args=(ROWS,)))
    assert [str(guard) for guard in capture_notes(gm).guards] == ["x.size(0) == 4"]
    with pytest.raises(GuardError, match=r"x\.size\(0\) == 4, but here it is 2"):
        gm(ROWS[:2])


class TreatsOneRowApart(nn.Module):
    """As decoders of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = OneRow()

    def forward(self, x):
        return self.inner(x) + 1


class OneRow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.one = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.many(x) if x.size(0) != 1 else self.one(x)


@pytest.mark.parametrize("rows", [2, 4])
def test_a_branch_for_one_row_is_a_guard_and_leaves_no_layer_whole(rows: int) -> None:
    model = TreatsOneRowApart().eval()
    gm = capture(model, Example(args=(ROWS[:rows],)))
    notes = capture_notes(gm)
    assert notes.opaque == ()
    assert ["(x.size(0) != 1) == True" in str(guard) for guard in notes.guards] == [True]
    torch.testing.assert_close(gm(ROWS[:3]), model(ROWS[:3]), **CLOSE)


class LoopsOverRows(nn.Module):
    """Almost all of a model, and for one batch size only."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(8, 64)

    def forward(self, x):
        return torch.stack([self.wide(row) for row in x])


def test_a_layer_that_holds_most_of_the_model_is_guarded_and_not_left_whole() -> None:
    model = nn.Sequential(LoopsOverRows(), nn.Linear(64, 2)).eval()
    gm = capture(model, Example(args=(ROWS,)))
    notes = capture_notes(gm)
    assert (notes.opaque, {guard.value for guard in notes.guards} >= {4}) == ((), True)
    with pytest.raises(GuardError, match=r"== 4, but here it is 2"):
        gm(ROWS[:2])


class Switches(nn.Module):
    """A branch that a compiled model leaves out, in a layer that stays whole."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        return self.fc(x) if torch.compiler.is_compiling() else self.fc(x) * 2


def test_a_whole_layer_runs_as_it_does_outside_of_capture() -> None:
    model = Switches().eval()
    gm = capture(model, Example(args=(ROWS,)))
    torch.testing.assert_close(gm(ROWS), model(ROWS), **CLOSE)


class RemembersInAttributes(forwards.Base):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.seen, self.total = 0.5, [], {"all": [torch.zeros(8)]}
        self.register_buffer("wide", torch.ones(1, 8).expand(4, 8))

    def forward(self, x):
        self.last = self.fc(x) + self.last
        self.seen.append(1)
        self.total["all"][0].add_(x.mean(0))
        return self.out(self.last) * len(self.seen) + self.total["all"][0] * self.wide


def test_attributes_that_a_forward_changes_are_put_back_after_each_trial() -> None:
    model, fresh = RemembersInAttributes().eval(), RemembersInAttributes().eval()
    fresh.fc, fresh.out = copy.deepcopy(model.fc), copy.deepcopy(model.out)
    gm = capture(model, Example(args=(ROWS,)))
    assert (capture_notes(gm).opaque, model.last, model.seen) == ((), 0.5, [])
    assert not model.total["all"][0].any()
    torch.testing.assert_close(gm(ROWS), fresh(ROWS), **CLOSE)


class KeepsItsNormInEvaluation(nn.Module):
    """What it overrides reads parts that a stand-in does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def extra_repr(self):
        return f"{self.fc.in_features}"

    def forward(self, x):
        return self.norm(self.fc(x))


class CallsAFrozenNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = KeepsItsNormInEvaluation()

    def forward(self, x):
        return self.inner(x) if x.sum() < 1e9 else x


def test_what_stands_in_for_a_layer_can_be_trained_moved_printed_and_copied() -> None:
    model = CallsAFrozenNorm().eval()
    gm = capture(model, Example(args=(ROWS,)))
    wanted = model(ROWS)
    assert isinstance(gm.get_submodule("model.inner"), KeepsItsNormInEvaluation)
    assert "KeepsItsNormInEvaluation" in repr(gm)
    for changed in (gm, copy.deepcopy(gm), pickle.loads(pickle.dumps(gm))):
        torch.testing.assert_close(changed.train().double().eval()(ROWS.double()).float(), wanted, **CLOSE)


class HooksItself(nn.Module):
    """Hangs a hook on a layer when it runs first, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.is_hooked = nn.Linear(8, 8), False

    def forward(self, x):
        if not self.is_hooked:
            self.fc.register_forward_hook(lambda module, args, output: output + 1)
            self.is_hooked = True
        return self.fc(x)


def test_hooks_that_a_forward_hangs_up_are_taken_down_after_each_trial() -> None:
    model, fresh = HooksItself().eval(), HooksItself().eval()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        given(capture(model, Example(args=(ROWS,))), Example(args=(ROWS,))), [fresh(ROWS)]
    )
    assert not model.fc._forward_hooks


class NeverTheSame(nn.Module):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return x * type(self).calls


def test_a_graph_that_differs_from_its_model_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gm = capture(NeverTheSame(), Example(args=(ROWS,)))
    assert "gives other results as a graph" in capture_notes(gm).failure
    assert "differs from the model" in caplog.text


def test_objects_and_containers_keep_their_types() -> None:
    gm = capture(*build("GivesADataclass"))
    result = gm(ROWS)
    assert type(result) is forwards.Pair
    assert torch.equal(result.others[1]["twice"], result.first * 2)
    assert type(capture(*build("FillsACache"))(STEPS)[1]) is forwards.Cache


def test_gradients_pass_through_a_custom_function_as_its_author_wrote_it() -> None:
    gm = capture(*build("CallsACustomFunction"))
    x = ROWS.clone().requires_grad_()
    gm(x).sum().backward()
    assert x.grad.abs().sum() > 0  # the gradient of rounding itself is zero


def test_gradients_stop_where_the_forward_switched_them_off() -> None:
    gm = capture(*build("StopsGradients"))
    gm(ROWS).sum().backward()
    assert gm.fc.weight.grad is None
    assert gm.out.weight.grad.abs().sum() > 0


def test_parameters_require_gradients_as_before() -> None:
    model, example = build("StopsGradients")
    model.fc.bias.requires_grad_(False)
    gm = capture(model, example)
    required = {name: parameter.requires_grad for name, parameter in gm.named_parameters()}
    assert required == {"fc.weight": True, "fc.bias": False, "out.weight": True, "out.bias": True}


def test_a_branch_goes_on_following_the_contents() -> None:
    model, example = build("BranchesOnContents")
    gm = capture(model, example)
    torch.testing.assert_close(gm(-ROWS), model(-ROWS), **CLOSE)
    torch.testing.assert_close(gm(ROWS), model(ROWS), **CLOSE)


class ReadsAWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        if x.sum() > 100:
            return x
        return self.fc(x) + self.fc.weight.sum()


def test_a_layer_that_is_read_and_not_only_called_stays_what_it_is() -> None:
    model = ReadsAWeight().eval()
    gm = capture(model, Example(args=(ROWS,)))
    assert "is read by the layer that calls it (.weight)" in str(capture_notes(gm).opaque[1])
    torch.testing.assert_close(gm(ROWS), model(ROWS), **CLOSE)


def test_an_example_that_the_model_rejects_is_named() -> None:
    with pytest.raises(CaptureError, match="fails on the example inputs"):
        capture(nn.Linear(8, 8), Example(args=(torch.zeros(2, 3),)))


def test_a_graph_module_is_captured() -> None:
    inner = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval())
    for gm in (capture(inner), capture(inner, Example(args=(IMAGE,)))):
        torch.testing.assert_close(gm(IMAGE), inner(IMAGE), **CLOSE)
        assert len(gm.graph.find_nodes(op="call_module")) == 3


def test_an_exported_program_is_captured() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (IMAGE,), dynamic_shapes=({0: batch},))
    gm = capture(program, Example(args=(IMAGE,)))
    torch.testing.assert_close(gm(IMAGE[:1]), model(IMAGE[:1]), **CLOSE)


def test_a_model_that_is_one_layer_is_captured() -> None:
    model = nn.Conv2d(3, 4, 3)
    torch.testing.assert_close(capture(model, Example(args=(IMAGE,)))(IMAGE), model(IMAGE), **CLOSE)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel], ids=["compile", "DataParallel"])
def test_a_wrapper_around_a_model_is_left_out(wrap: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    gm = capture(wrap(model), Example(args=(ROWS,)))
    torch.testing.assert_close(gm(ROWS), model(ROWS), **CLOSE)


class ComputesInHalf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.fc(x)


def test_automatic_casts_are_left_out_and_noted() -> None:
    model = ComputesInHalf().eval()
    gm = capture(model, Example(args=(ROWS,)))
    assert capture_notes(gm).uses_autocast
    assert torch.equal(gm(ROWS), model.fc(ROWS))
