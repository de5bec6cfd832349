"""Encodings files of small models, and ways to spoil them."""

import json
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import fx, nn

from fxquant.export import encodings_json
from fxquant.quantsim import QuantizationSimModel, config_utils
from fxquant.quantsim.sim_export import prepared_graph

KINDS = ("channels", "blocks", "groups")


class Net(nn.Module):
    """A convolution, a transposed one, a concatenation on one grid, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(4, 8, 1), nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.relu(self.conv(x)))
        return self.fc(torch.cat([x, -x], dim=1).mean((2, 3)))


def calibrated(kind: str = "channels", seed: int = 0) -> fx.GraphModule:
    """Return a prepared model with ranges, its weights per channel, in blocks, or in groups of blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net().eval()
        torch.manual_seed(seed)
        x = torch.randn(4, 4, 6, 6) * (seed + 1)
    sim = QuantizationSimModel(model, x)
    layers = [nn.Conv2d, nn.Linear, nn.ConvTranspose2d]
    if kind == "blocks":
        config_utils.set_blockwise_quantization_for_weights(sim, layers, 4, True, 2)
    if kind == "groups":
        config_utils.set_grouped_blockwise_quantization_for_weights(sim, layers, 4, True, 8, 2)
    sim.compute_encodings(lambda model: model(x))
    return prepared_graph(sim)


def written(gm: fx.GraphModule, path: Path, version: str = "1.0.0") -> Path:
    """Write the encodings of a model."""
    path.write_text(json.dumps(encodings_json(gm, version)), encoding="utf-8")
    return path


def numbers_of(gm: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Return all that loading encodings may change in a model."""
    return {name: value.clone() for name, value in gm.state_dict().items() if isinstance(value, torch.Tensor)}


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**40), 10**40),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(
            ["int8", "uint8", "float8e4m3fn", "LPBQ", "INT", "FLOAT", "True", "1.0.0", 0, 1, -1, 16]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def spoiled(document: object, draw: st.DrawFn) -> object:
    """Return a copy of a JSON document, one place of it removed, renamed, repeated or replaced."""
    copied = json.loads(json.dumps(document))
    holder, key = draw(st.sampled_from(list(_places(copied))))
    what = draw(st.sampled_from(["replace", "remove", "repeat", "rename", "scale"]))
    value = holder[key]
    if what == "remove":
        del holder[key]
    elif what == "repeat" and isinstance(holder, list):
        holder.insert(key, value)
    elif what == "rename" and isinstance(holder, dict):
        holder[draw(st.text(max_size=6) | st.sampled_from(["axis", "name", "block_size", "min"]))] = (
            holder.pop(key)
        )
    elif what == "scale" and isinstance(value, int | float):
        holder[key] = value * draw(st.sampled_from([-1, 0, 0.5, 2, 1e30, 1e-30, 1e300]))
    else:
        holder[key] = draw(JSON)
    return copied


def _places(value: object):
    """Yield each container of a document with each of its keys."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
