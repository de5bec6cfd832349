import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fxquant
from fxquant.errors import ModelFileError
from tests.storage.shards import chain, loaded, written


class Tied(nn.Module):
    """An embedding whose weight is the last layer's, as language models have it."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.head = nn.Linear(4, 8, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


class Rotary(nn.Module):
    """A layer with a buffer that it computes and that no file holds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("frequencies", torch.arange(4.0), persistent=False)

    def forward(self, x):
        return self.layer(x) * self.frequencies


@pytest.mark.parametrize("shards", [1, 3])
def test_a_loaded_model_computes_what_the_written_one_does(tmp_path, shards):
    model, x = chain(3, 16), torch.randn(2, 16)
    other = loaded(lambda: chain(3, 16), written(model, tmp_path, shards))
    assert torch.equal(other(x), model(x))


def test_an_index_names_the_shards(tmp_path):
    model = chain(2, 16)
    state = model.state_dict()
    for number, names in enumerate((["0.weight", "0.bias"], ["2.weight", "2.bias"])):
        save_file({name: state[name] for name in names}, tmp_path / f"part{number}.safetensors")
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "older.safetensors")
    index = {name: f"part{int(name[0]) // 2}.safetensors" for name in state}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    x = torch.randn(2, 16)
    assert torch.equal(loaded(lambda: chain(2, 16), tmp_path)(x), model(x))


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.float8_e4m3fn],
    ids=str,
)
def test_tensors_have_the_type_that_they_have_in_the_file(tmp_path, dtype):
    values = torch.tensor([[0, 1, 0], [1, 1, 0]]).to(dtype)
    save_file({"odd": torch.ones(3, dtype=torch.uint8), "held": values}, tmp_path / "one.safetensors")
    model = nn.Module()
    model.register_buffer("held", torch.empty(2, 3, device="meta"))
    fxquant.load_shards(model, tmp_path / "one.safetensors", strict=False)
    assert model.held.dtype is dtype
    assert torch.equal(model.held.float(), values.float())


def test_tensors_without_elements_are_loaded(tmp_path):
    save_file({"held": torch.empty(0, 3)}, tmp_path / "one.safetensors")
    model = nn.Module()
    model.register_buffer("held", torch.empty(0, 3, device="meta"))
    fxquant.load_shards(model, tmp_path)
    assert model.held.shape == (0, 3)
    assert model.held.device.type == "cpu"


def test_tied_parameters_stay_one(tmp_path):
    model = Tied()
    save_file({"head.weight": model.head.weight.detach()}, tmp_path / "one.safetensors")
    other = loaded(Tied, tmp_path)
    assert other.head.weight is other.embedding.weight
    assert torch.equal(other.head.weight, model.head.weight)


def test_names_may_have_a_prefix_in_the_file(tmp_path):
    model, x = chain(1, 16), torch.randn(2, 16)
    state = {f"decoder.{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(state | {"head.weight": torch.zeros(1)}, tmp_path / "one.safetensors")
    other = chain(1, 16).to("meta")
    fxquant.load_shards(other, tmp_path, prefix="decoder.")
    assert torch.equal(other(x), model(x))


def test_training_a_loaded_model_leaves_the_file_as_it_was(tmp_path):
    folder = written(chain(1, 16), tmp_path)
    before = (folder / "model-0.safetensors").read_bytes()
    model = loaded(lambda: chain(1, 16), folder)
    model(torch.randn(2, 16)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(model[0].bias, loaded(lambda: chain(1, 16), folder)[0].bias)
    assert (folder / "model-0.safetensors").read_bytes() == before


def test_buffers_that_no_file_holds_are_computed_by_the_model(tmp_path):
    model, x = Rotary(), torch.randn(2, 4)
    assert torch.equal(loaded(Rotary, written(model, tmp_path))(x), model(x))


def test_a_computed_buffer_on_meta_is_an_error_that_says_how(tmp_path):
    folder = written(Rotary(), tmp_path)
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(ModelFileError, match=r"'frequencies' is on the meta device.*parameters_on_meta"):
        fxquant.load_shards(model, folder)
    assert model.layer.weight.device.type == "meta"


def test_buffers_can_be_passed(tmp_path):
    folder, x = written(Rotary(), tmp_path), torch.randn(2, 4)
    with torch.device("meta"):
        model = Rotary()
    fxquant.load_shards(model, folder, buffers={"frequencies": torch.full((4,), 2.0)})
    assert torch.equal(model(x), model.layer(x) * 2)


@pytest.mark.parametrize(
    ("held", "message", "layer"),
    [
        ({"0.weight": (16, 16)}, "1 tensor(s) of the model are not in '.*', first '0.bias'", "0"),
        (
            {"0.weight": (16, 16), "0.bias": (16,), "9.bias": (1,)},
            "no place for 1 tensor(s), first '9.bias'",
            "9",
        ),
        ({"0.weight": (16, 4), "0.bias": (16,)}, "shape (16, 4) in the file and (16, 16) in the model", "0"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, held, message, layer):
    save_file({name: torch.zeros(shape) for name, shape in held.items()}, tmp_path / "one.safetensors")
    model = chain(1, 16).to("meta")
    with pytest.raises(ModelFileError, match=re.escape(message).replace(r"\.\*", ".*")) as caught:
        fxquant.load_shards(model, tmp_path)
    assert caught.value.layer == layer
    assert model[0].weight.device.type == "meta"


def test_a_file_that_is_cut_off_is_an_error(tmp_path):
    whole = written(chain(1, 16), tmp_path) / "model-0.safetensors"
    whole.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="cut off"):
        fxquant.load_shards(chain(1, 16), whole)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 a zip file", (9).to_bytes(8, "little") + b"not json!"],
    ids=["empty", "zip", "json"],
)
def test_another_kind_of_file_is_an_error(tmp_path, content):
    (tmp_path / "one.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"cannot be read as a safetensors file"):
        fxquant.load_shards(chain(1, 16), tmp_path)


def test_a_folder_without_files_is_an_error(tmp_path):
    with pytest.raises(ModelFileError, match="holds no safetensors file"):
        fxquant.load_shards(chain(1, 16), tmp_path)


def test_an_index_that_names_a_shard_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"0.bias": "gone.safetensors"}}')
    with pytest.raises(ModelFileError, match=r"gone\.safetensors"):
        fxquant.load_shards(chain(1, 16), tmp_path)
