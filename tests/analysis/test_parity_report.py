import numpy as np

from fxquant.analysis import OutputParity, ParityReport, TensorParity
from fxquant.runtimes import Fallback, FloatOp


def tensor(name, max_steps):
    return TensorParity(
        name=name, layer=f"{name}.layer", op="add", elements=8, differing=2, max_steps=max_steps
    )


def report(**fields):
    defaults = {"runtime": "htp", "tensors": (tensor("a", 1), tensor("b", 3), tensor("c", 9)), "outputs": ()}
    return ParityReport(**defaults | fields)


def test_first_departure_is_the_first_in_graph_order_not_the_largest():
    first = report().first_departure
    assert (first.name, first.layer, first.op, first.steps, first.share) == ("b", "b.layer", "add", 3, 0.25)
    assert str(first) == "add 'b' (layer 'b.layer'): 3 steps, 25.0% of its codes"


def test_allowed_steps_decide_what_departs():
    assert [departure.name for departure in report(allowed_steps=0).departures] == ["a", "b", "c"]
    assert report(allowed_steps=9).first_departure is None


def test_float_output_departs_by_255ths_of_its_range():
    output = OutputParity(name="logits", range=25.5, own_difference=0.3)
    departures = report(tensors=(), outputs=(output,), allowed_steps=2).departures
    assert [(departure.name, round(departure.steps, 6)) for departure in departures] == [("logits", 3.0)]
    assert report(tensors=(), outputs=(output,), allowed_steps=3).departures == ()


def test_only_ops_that_are_quantized_in_the_file_are_islands():
    ops = [FloatOp(op="Add", nodes=("a",), precision="f16", is_quantized=quantized) for quantized in (1, 0)]
    text = str(report(float_ops=tuple(ops)))
    assert report(float_ops=tuple(ops)).float_islands == (ops[0],)
    assert "1 op(s) in float though quantized in the file: Add (f16) of a" in text
    assert "1 op(s) in float as in the file" in text


def test_exposure_that_changes_what_runs_is_said():
    changed = report(outputs=(OutputParity(name="logits", exposed_difference=0.5),))
    assert not changed.is_exposure_neutral
    assert "exposing the codes changes output 'logits' by 0.5" in str(changed)
    assert report(outputs=(OutputParity(name="logits"),)).is_exposure_neutral


def test_text_names_three_fallbacks_and_counts_all():
    left = tuple(Fallback(op="Erf", node=str(index), reason="why") for index in range(5))
    assert "5 node(s) not taken by the runtime: Erf '0': why; Erf '1': why; Erf '2': why ..." in str(
        report(fallbacks=left)
    )


def test_codes_are_counted_apart_for_both_ways_of_feeding():
    parity = TensorParity(name="a", layer="")
    parity.count(np.array([0, 255], np.uint8), np.array([1, 0], np.uint8), feeds_runtime=True)
    parity.count(np.array([3, 3], np.uint8), np.array([3, 5], np.uint8), feeds_runtime=False)
    assert (parity.elements, parity.differing, parity.max_steps, parity.share) == (2, 2, 255, 1.0)
    assert (parity.drifted, parity.max_drift) == (1, 2)
