import pytest
import torch

import fxquant
from fxquant.algorithms.layers import layers_of
from fxquant.algorithms.moments import Moments, importance, moments_of
from fxquant.algorithms.streams import Streams
from fxquant.calibration import Signature, calls_of
from tests.algorithms.layer_cases import LAYERS, prepared


def collected(kind: str, *, with_cross: bool = True):
    gm, batches = prepared(kind)
    calls = list(calls_of(batches, Signature(gm)))
    for stage in Streams(gm, calls).stages():
        for layer in layers_of(gm, stage.block.nodes)[0]:
            rows = layer.rows(layer.weight.detach())
            patches = [
                torch.cat([layer.patches(x) for x in stage.values(layer.input, is_quantized=mode)], dim=1)
                for mode in (True, False)
            ]
            return rows, patches, moments_of(stage, layer, rows, with_cross=with_cross)
    raise AssertionError


@pytest.mark.parametrize("kind", LAYERS)
def test_error_of_rows_is_that_of_the_outputs_of_all_batches(kind: str) -> None:
    rows, (patches, _), moments = collected(kind, with_cross=False)
    other = rows + 0.1 * torch.randn_like(rows)
    outputs = patches @ rows.mT
    # importance is found batch by batch: of four batches of one size
    shares = torch.cat([importance(part.square().mean(2, keepdim=True)) for part in outputs.chunk(4, 1)], 1)
    weighted = ((patches @ other.mT - outputs).square() * shares).sum(dim=1) / shares[0].sum()
    # sums of the same products in float32, in another order: of some 1e3 terms each
    torch.testing.assert_close(moments.error(other, rows), weighted, rtol=1e-4, atol=1e-7)
    power = (outputs.square() * shares).sum(dim=1) / shares[0].sum()
    torch.testing.assert_close(moments.power, power, rtol=1e-5, atol=1e-7)


def test_target_rows_make_up_for_the_error_of_the_input() -> None:
    rows, (patches, floats), moments = collected("linear")
    wanted = floats @ rows.mT
    plain = (patches @ rows.mT - wanted).square().mean()
    corrected = (patches @ moments.target(rows, 1e-4).mT - wanted).square().mean()
    assert float(corrected) < 0.9 * float(plain)


def test_with_much_damping_the_target_is_the_weight() -> None:
    rows, _, moments = collected("linear")
    torch.testing.assert_close(moments.target(rows, 1e9), rows, rtol=1e-6, atol=1e-7)


def test_without_an_error_of_the_input_the_target_is_the_weight() -> None:
    rows, _, moments = collected("linear")
    same = Moments(hessian=moments.hessian, cross=moments.hessian, power=moments.power)
    torch.testing.assert_close(same.target(rows, 0.01), rows)


def test_places_of_equal_power_count_the_same_and_a_huge_one_counts_little() -> None:
    powers = torch.ones(1, 100, 1)
    torch.testing.assert_close(importance(powers), torch.full((1, 100, 1), 0.5))
    powers[0, 7] = 1e6
    shares = importance(powers)
    assert float(shares[0, 7]) < 0.02 * float(shares[0, 8])


def test_a_layer_that_sees_only_zeros_has_finite_moments() -> None:
    gm = fxquant.prepare(
        torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.ones(2, 4), target="onnxruntime:w4a8"
    )
    batches = [torch.zeros(2, 4)]
    fxquant.calibrate(gm, batches, progress=False)
    calls = list(calls_of(batches, Signature(gm)))
    for stage in Streams(gm, calls).stages():
        for layer in layers_of(gm, stage.block.nodes)[0]:
            moments = moments_of(stage, layer, layer.rows(layer.weight.detach()), with_cross=True)
            rows = layer.rows(layer.weight.detach())
            torch.testing.assert_close(moments.target(rows, 0.01), rows)
            assert float(moments.error(rows * 2, rows).sum()) == 0.0


def test_shrunk_moments_keep_the_power_of_each_input_and_the_error_of_the_input() -> None:
    _, _, moments = collected("linear")
    shrunk = moments.shrunk(0.25)
    powers = shrunk.hessian.diagonal(dim1=1, dim2=2), moments.hessian.diagonal(dim1=1, dim2=2)
    assert torch.equal(*powers)
    torch.testing.assert_close(shrunk.hessian[0, 0, 1], 0.75 * moments.hessian[0, 0, 1])
    wrong = shrunk.cross - shrunk.hessian, moments.cross - moments.hessian
    # differences of numbers as large as a power: they are off by what float32 rounds those
    rounded = 4 * torch.finfo(torch.float32).eps * float(moments.hessian.abs().max())
    torch.testing.assert_close(*wrong, rtol=0.0, atol=rounded)
