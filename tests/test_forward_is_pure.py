import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests import digits

IMAGES = digits.split().test_images[:4]
MAKERS = {"prepared": digits.prepared, "quantized": digits.quantized}


class NoReads(TorchDispatchMode):
    """Fails when a tensor's value reaches Python, as .item() and a branch on a tensor do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a tensor's value was read")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("target", digits.TARGETS)
@pytest.mark.parametrize("stage", MAKERS)
def test_forward_reads_no_tensor_value(stage, target):
    model = MAKERS[stage](target)
    with NoReads():
        model(IMAGES)


@pytest.mark.parametrize("target", digits.TARGETS)
def test_backward_reads_no_tensor_value(target):
    model = digits.prepared(target)
    with NoReads():
        model(IMAGES).sum().backward()


@pytest.mark.parametrize("target", digits.TARGETS)
def test_forward_runs_on_tensors_without_values(target):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        output = digits.quantized(target)(mode.from_tensor(IMAGES))
    assert output.shape == (4, 10)
