"""Models in DistributedDataParallel, or sharded by fully_shard: they calibrate, train and are gathered."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import fxquant
from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.nn import QuantizationMixin
from tests import digits
from tests.calibration.job import run_job

pytestmark = pytest.mark.slow

IMAGES = digits.split().train_images[:32]
BATCHES = list(IMAGES.split(8))[:3]  # an uneven number for two processes
STEPS = 2
_ROUNDING = 1e-6  # of gradients summed in another order, some 10 roundings of float32 at values about 1


def ranges(model):
    sites = [*activation_sites(model), *weight_sites(model)]
    return {site.name: (site.quantizer.min.tolist(), site.quantizer.max.tolist()) for site in sites}


def sharded(model):
    """Shard each layer that holds parameters, and the model."""
    mesh, ignored = init_device_mesh("cpu", (dist.get_world_size(),)), fxquant.range_parameters(model)
    for layer in list(model.modules()):
        if isinstance(layer, QuantizationMixin) and list(layer.parameters(recurse=False)):
            fully_shard(layer, mesh=mesh, ignored_params=ignored)
    return fully_shard(model, mesh=mesh, ignored_params=ignored)


def step(model, images, optimizer, after=lambda model: None):
    loss = model(images).square().mean()
    loss.backward()
    after(model)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def part(rank):
    return IMAGES.chunk(dist.get_world_size())[rank]


def trained(model, images, after=lambda model: None):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return [step(model, images, optimizer, after) for _ in range(STEPS)]


def every_case(rank, folder):
    """Calibrate and train one model in three ways; return what differs."""
    plain = fxquant.prepare(digits.float_model(), target="onnxruntime")
    wrapped = DistributedDataParallel(copy.deepcopy(plain))
    parts = sharded(copy.deepcopy(plain))
    models = {"plain": plain, "wrapped": wrapped.module, "sharded": parts}
    for model in (plain, wrapped, parts):
        fxquant.calibrate(model, BATCHES, "mse")
    found = {name: ranges(model) for name, model in models.items()}
    trained(plain, IMAGES)
    losses = trained(wrapped, part(rank)) + trained(parts, part(rank), fxquant.average_range_gradients)
    state = get_model_state_dict(parts, options=StateDictOptions(full_state_dict=True))
    gathered = fxquant.prepare(digits.float_model(), target="onnxruntime", example_inputs=IMAGES[:2])
    gathered.load_state_dict(state if rank == 0 else plain.state_dict())
    models["gathered"] = gathered
    with torch.no_grad():
        expected = plain(IMAGES)
        off = {name: (model(IMAGES) - expected).abs().max().item() for name, model in models.items()}
    files = fxquant.export(fxquant.convert(gathered), folder / f"out{rank}")
    own = [parameter.tolist() for parameter in activation_parameters(parts)]
    return {"ranges": found, "losses": losses, "off": off, "has_file": files.onnx.exists(), "own": own}


def activation_parameters(model):
    return [end for site in activation_sites(model) for end in (site.quantizer.min, site.quantizer.max)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    outcomes = run_job(2, tmp_path_factory.mktemp("job"), every_case)
    assert [outcome.error for outcome in outcomes] == [None, None]
    return [outcome.result for outcome in outcomes]


@pytest.mark.parametrize("case", ["wrapped", "sharded"])
def test_ranges_are_those_of_the_plain_model(found, case):
    assert found[0]["ranges"][case] == found[0]["ranges"]["plain"]
    assert found[1]["ranges"][case] == found[0]["ranges"]["plain"]


@pytest.mark.parametrize("case", ["wrapped", "sharded", "gathered"])
def test_steps_are_those_of_one_process_on_the_joined_batch(found, case):
    assert max(result["off"][case] for result in found) < _ROUNDING


def test_losses_are_finite_and_ranges_stay_equal_on_all_processes(found):
    assert all(torch.tensor(result["losses"]).isfinite().all() for result in found)
    assert found[0]["own"] == found[1]["own"]


def test_gathered_model_is_exported(found):
    assert found[0]["has_file"]
