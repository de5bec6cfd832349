import logging
from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.calibration import CalibrationInterpreter
from fxquant.errors import OptionError
from fxquant.graph import Report, capture, graph_text
from fxquant.passes import (
    CATALOGUE,
    AssignSpecs,
    Canonicalize,
    Changes,
    FoldBatchNorm,
    Pass,
    Pipeline,
    RemoveNoop,
    convert_pipeline,
    parse,
    prepare_pipeline,
)
from fxquant.passes.pipeline import parse_pipeline
from fxquant.targets import TARGETS, get_target
from tests.zoo import small_models

DECOMPOSE = (
    "remove-given-quantizers,canonicalize-writes,canonicalize,remove-noop,remove-half-casts,decompose-einsum,"
    "decompose-grouped-products,decompose-addmm,decompose-attention"
)
FOLD = f"{DECOMPOSE},swap-layers,fold-batch-norm"


@dataclass(frozen=True)
class Tuned(Pass):
    """Have an option of every type."""

    steps: int = 3
    rate: float = 0.5
    is_careful: bool = False
    mode: str = "fast"

    name = "tuned"
    changes = Changes.NOTHING

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        return False


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.drop(x), inplace=True)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [prepare_pipeline, convert_pipeline], ids=["prepare", "convert"])
def test_pipelines_of_targets_survive_printing_and_parsing(make: object, target: str) -> None:
    pipeline = make(get_target(target))  # type: ignore[operator]  # one of the two functions above
    assert parse(str(pipeline)) == pipeline


@pytest.mark.parametrize("step", CATALOGUE, ids=lambda step: step.name)
def test_every_pass_survives_printing_and_parsing(step: type[Pass]) -> None:
    assert parse(str(Pipeline((step(),)))) == Pipeline((step(),))


@pytest.mark.parametrize(
    ("step", "text"),
    [
        pytest.param(Tuned(), "tuned", id="defaults"),
        pytest.param(Tuned(steps=7), "tuned{steps=7}", id="whole number"),
        pytest.param(Tuned(rate=1e-3), "tuned{rate=0.001}", id="number"),
        pytest.param(Tuned(is_careful=True), "tuned{is_careful=true}", id="flag"),
        pytest.param(Tuned(mode="slow"), "tuned{mode=slow}", id="word"),
        pytest.param(
            Tuned(steps=1, rate=2.0, is_careful=True, mode="x"),
            "tuned{steps=1 rate=2.0 is_careful=true mode=x}",
            id="all",
        ),
    ],
)
def test_options_are_printed_where_they_differ_and_parsed_back(step: Tuned, text: str) -> None:
    assert str(Pipeline((step,))) == text
    assert parse_pipeline(text, [Tuned]) == Pipeline((step,))


def test_spaces_around_passes_do_not_count() -> None:
    assert parse(" canonicalize ,\n remove-noop") == Pipeline((Canonicalize(), RemoveNoop()))


@pytest.mark.parametrize("target", TARGETS)
def test_pipeline_of_a_target_reads_as_expected(target: str) -> None:
    wanted = {
        "tensorrt": f"{DECOMPOSE},canonicalize-pools,swap-layers,fold-batch-norm,assign-specs,"
        "assign-small-layers,legalize-inputs,assign-residual-branches,legalize-outputs,share-encodings,"
        "insert-quantizers,swap-modules,assign-given-ranges",
        **{
            name: f"{FOLD},assign-specs{{target={name}}},assign-outputs{{target={name}}},"
            "share-encodings,insert-quantizers,swap-modules,assign-given-ranges"
            for name in ("onnxruntime", "openvino", "generic")
        },
        "qualcomm": f"{DECOMPOSE},decompose-activations,decompose-embedding,"
        "decompose-group-norm,insert-constants{target=qualcomm},swap-layers,fold-batch-norm,decompose-biases{target=qualcomm},"
        "assign-specs{target=qualcomm},"
        "assign-outputs{target=qualcomm},share-encodings,insert-quantizers,swap-modules,assign-given-ranges",
    }
    assert str(prepare_pipeline(get_target(target))) == wanted[target]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("tensorrt", "widen-weights,freeze-encodings"),
        ("onnxruntime", "widen-weights,derive-bias,freeze-encodings"),
    ],
    ids=["float biases", "int32 biases"],
)
def test_biases_are_derived_only_for_targets_that_store_them(target: str, text: str) -> None:
    assert str(convert_pipeline(get_target(target))) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "'' is not a pass", id="empty"),
        pytest.param("canonicalize,", "'' is not a pass", id="trailing comma"),
        pytest.param("Canonicalize", "'Canonicalize' is not a pass", id="class name"),
        pytest.param("assign-specs{target=tensorrt", "is not a pass", id="open brace"),
        pytest.param("canonicalise", "no pass 'canonicalise'.*Did you mean 'canonicalize'", id="misspelled"),
        pytest.param("nonsense", "no pass 'nonsense'.*Known: assign-given-ranges", id="unknown pass"),
        pytest.param("assign-specs{targt=qnn}", "option of pass 'assign-specs' 'targt'", id="unknown option"),
        pytest.param("canonicalize{x=1}", "option of pass 'canonicalize' 'x'", id="option of none"),
        pytest.param("swap-modules{everything=1}", r"is no bool.*For example: false\.", id="no truth value"),
    ],
)
def test_text_that_is_no_pipeline_is_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("tuned{steps=many}", id="no whole number"),
        pytest.param("tuned{is_careful=yes}", id="no flag"),
    ],
)
def test_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_pipeline(text, [Tuned])


def test_pass_before_one_it_must_come_after_is_refused() -> None:
    with pytest.raises(OptionError, match="'fold-batch-norm' must come after 'remove-noop'"):
        Pipeline((FoldBatchNorm(), RemoveNoop()))


def test_pass_whose_predecessor_is_left_out_is_allowed() -> None:
    assert str(parse("fold-batch-norm")) == "fold-batch-norm"


def test_grids_cannot_be_shared_before_outputs_are_assigned() -> None:
    with pytest.raises(OptionError, match="must come after"):
        parse("assign-specs,share-encodings,legalize-outputs")


def test_pass_may_run_again_later() -> None:
    assert str(parse("canonicalize,remove-noop,canonicalize")) == "canonicalize,remove-noop,canonicalize"


def test_caller_sees_the_graph_after_every_pass() -> None:
    texts: dict[str, str] = {}
    gm = capture(Net())
    parse(FOLD).run(gm, Report(), lambda step, after: texts.update({step.name: graph_text(after)}))
    assert list(texts) == FOLD.split(",")
    assert "Dropout" in texts["canonicalize"]
    assert texts["fold-batch-norm"] == graph_text(gm)


def test_report_gathers_the_sites_of_all_passes_in_order() -> None:
    report = Report()
    parse(FOLD).run(capture(Net()), report)
    assert [site.rewrite for site in report.sites] == ["canonicalize", "remove-noop"]


def test_every_pass_logs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fxquant.passes"):
        parse(FOLD).run(capture(Net()), Report())
    assert [record.getMessage() for record in caplog.records] == [
        "remove-given-quantizers: 0 applied, 0 declined",
        "canonicalize-writes: 0 applied, 0 declined",
        "canonicalize: 1 applied, 0 declined",
        "remove-noop: 1 applied, 0 declined",
        "remove-half-casts: 0 applied, 0 declined",
        "decompose-einsum: 0 applied, 0 declined",
        "decompose-grouped-products: 0 applied, 0 declined",
        "decompose-addmm: 0 applied, 0 declined",
        "decompose-attention: 0 applied, 0 declined",
        "swap-layers: 0 applied, 0 declined",
        "fold-batch-norm: 0 applied, 0 declined",
    ]


def test_target_that_does_not_exist_is_refused_when_the_pass_runs() -> None:
    with pytest.raises(OptionError, match="no target 'nowhere'"):
        Pipeline((AssignSpecs(target="nowhere"),)).run(capture(Net()), Report())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", small_models.NAMES)
def test_prepared_model_in_float_is_bit_for_bit_the_folded_one(name: str, target: str) -> None:
    model, inputs = small_models.build(name)
    folded, prepared = capture(model), capture(model)
    parse(FOLD).run(folded, Report())
    prepare_pipeline(get_target(target)).run(prepared, Report())
    in_float = CalibrationInterpreter(prepared)
    assert torch.equal(in_float.run(*inputs), folded(*inputs))
