import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.algorithms import KeepFloat, parse
from fxquant.calibration.sites import activation_sites
from fxquant.errors import OptionError
from fxquant.graph import graph_text


@pytest.fixture
def gm() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 4))
    prepared = fxquant.prepare(model, torch.randn(2, 8), target="onnxruntime")
    fxquant.calibrate(prepared, [torch.randn(16, 8)], progress=False)
    return prepared


def names(gm: fx.GraphModule) -> list[str]:
    return [site.name for site in activation_sites(gm)]


def test_named_tensors_are_read_in_float(gm: fx.GraphModule) -> None:
    before = names(gm)
    report = KeepFloat(tensors=before[1])(gm)
    assert names(gm) == [name for name in before if name != before[1]]
    assert [site.layer for site in report.applied] == [before[1]]


def test_patterns_fit_several_tensors(gm: fx.GraphModule) -> None:
    KeepFloat(tensors="*")(gm)
    assert names(gm) == []
    x = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.isfinite(fxquant.convert(gm)(x)).all()


def test_option_survives_printing_and_parsing(gm: fx.GraphModule) -> None:
    chosen = KeepFloat(tensors="encoder.*.add|head")
    assert parse(str(chosen)) == (chosen,)


def test_name_that_fits_nothing_is_refused_and_the_model_stays(gm: fx.GraphModule) -> None:
    before = graph_text(gm)
    with pytest.raises(OptionError, match="No quantized tensor is named 'nowhere'"):
        KeepFloat(tensors=f"{names(gm)[0]}|nowhere")(gm)
    assert graph_text(gm) == before


def test_model_exports_and_verifies_afterwards(gm: fx.GraphModule, tmp_path: object) -> None:
    KeepFloat(tensors=names(gm)[1])(gm)
    fxquant.calibrate(gm, [torch.randn(16, 8)], progress=False)
    quantized = fxquant.convert(gm)
    files = fxquant.export(quantized, str(tmp_path))
    assert fxquant.verify(quantized, files, [torch.randn(16, 8)]).max_steps <= 1
