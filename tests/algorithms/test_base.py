from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.algorithms import Algorithm, AlgorithmReport, AlgorithmSite, Context
from fxquant.errors import BatchError, ModelTypeError, NotCalibratedError, OptionError
from fxquant.passes.step_text import parse_steps


@dataclass(frozen=True, kw_only=True)
class Halve(Algorithm):
    """Halves every weight, gives biases, and may fail at the end."""

    name = "halve"
    times: int = 1
    share: float = 0.5
    fails: bool = False
    needs_batches = False

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        for name, module in gm.named_modules():
            if isinstance(module, nn.Linear):
                for _ in range(self.times):
                    context.write(module.weight, module.weight * self.share)
                context.set_parameter(module, "bias", torch.randn(module.out_features))
                context.applied(name, "halved", before=1.0, after=0.5)
        context.declined("model", "it is no layer")
        if self.fails:
            raise KeyboardInterrupt


class NeedsData(Halve):
    name = "needs-data"
    needs_batches = True


class NeedsRanges(Halve):
    name = "needs-ranges"
    needs_ranges = True


def model() -> fx.GraphModule:
    layers = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    return fxquant.prepare(layers, torch.randn(2, 4), target="generic")


def state(gm: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in gm.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_reports_every_site() -> None:
    report = Halve(times=2)(model())
    assert report == AlgorithmReport(algorithm="halve{times=2}", sites=report.sites)
    assert [site.layer for site in report.applied] == ["0", "2"]
    assert report.declined == [AlgorithmSite(layer="model", applied=False, reason="it is no layer")]
    assert str(report).splitlines() == [
        "halve{times=2}: 2 applied, 1 declined",
        "applied at '0': halved (1 -> 0.5)",
        "applied at '2': halved (1 -> 0.5)",
        "declined at 'model': it is no layer",
    ]


def test_an_interrupt_leaves_the_model_as_it_was() -> None:
    gm = model()
    before = state(gm)
    with pytest.raises(KeyboardInterrupt):
        Halve(fails=True, times=2)(gm)
    assert_same(before, state(gm))


def test_a_seed_gives_the_same_model_and_leaves_the_callers_generator() -> None:
    first, second, third = model(), model(), model()
    second.load_state_dict(first.state_dict())
    third.load_state_dict(first.state_dict())
    before = torch.random.get_rng_state()
    for gm, seed in ((first, 3), (second, 3), (third, 4)):
        Halve()(gm, seed=seed)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same(state(first), state(second))
    assert not torch.equal(state(first)["0.bias"], state(third)["0.bias"])


def test_what_was_changed_is_simulated_at_once() -> None:
    gm, data = model(), torch.randn(8, 4)
    fxquant.calibrate(gm, [data])
    before = gm(data)
    Halve(share=0.0)(gm)
    assert not torch.equal(before, gm(data))


def test_a_float_model_is_refused() -> None:
    with pytest.raises(ModelTypeError, match="prepared"):
        Halve()(nn.Linear(2, 2))


def test_missing_batches_and_ranges_are_errors() -> None:
    with pytest.raises(BatchError, match="needs-data"):
        NeedsData()(model())
    with pytest.raises(NotCalibratedError, match="calibrate"):
        NeedsRanges()(model())


@pytest.mark.parametrize(
    "algorithm",
    [Halve(), Halve(times=3), Halve(share=0.25, fails=True)],
    ids=["defaults", "one option", "two options"],
)
def test_text_parses_back(algorithm: Algorithm) -> None:
    assert parse_steps(str(algorithm), [Halve], "algorithm") == (algorithm,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("halv", "Did you mean 'halve'"),
        ("halve{time=1}", "option of algorithm 'halve'"),
        ("halve{times=much}", "is no int"),
        ("halve{", "is not an algorithm"),
    ],
    ids=["name", "option", "value", "form"],
)
def test_text_that_means_nothing_is_an_error(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_steps(text, [Halve], "algorithm")
