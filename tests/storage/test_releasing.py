import contextlib
import platform

import pytest
import torch
from torch.nn import functional as F

from fxquant.storage import releasing
from tests.storage.shards import chain, held, loaded, written

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="reads Linux's notes on pages")


def test_a_run_inside_leaves_no_weight_in_memory(tmp_path):
    model, x = loaded(chain, written(chain(), tmp_path)), torch.randn(2, 512)
    wanted = model(x)
    with releasing(model), torch.no_grad():
        assert torch.equal(model(x), wanted)
    assert held(model) == []


def test_functions_of_weights_count_too(tmp_path):
    model = loaded(chain, written(chain(), tmp_path))
    with releasing(model), torch.no_grad():
        F.linear(torch.randn(2, 512), model[0].weight.t())
    assert held(model) == []


def test_a_model_in_plain_memory_runs_without_a_mode():
    assert isinstance(releasing(chain()), contextlib.nullcontext)
