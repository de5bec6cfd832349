"""load_shards: give a model, such as one on the meta device, parameters that stay in safetensors files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from fxquant.errors import ModelFileError
from fxquant.storage.safetensors import SafetensorsFile

_INDEX = "*.safetensors.index.json"


def load_shards(
    model: nn.Module,
    path: str | Path,
    *,
    prefix: str = "",
    buffers: Mapping[str, torch.Tensor] | None = None,
    strict: bool = True,
) -> None:
    """Give a model the parameters and buffers of safetensors files, in place, without reading them.

    They are mapped: what a layer reads is read from the file when it runs, and what is written, such as by
    training, is a copy in memory; the files never change and must stay where they are. They have the type
    that they have in the file. Parameters that are one in the model stay one, under whichever of their names
    the files hold.

    Args:
        model: A model on any device, built for example under ``fxquant.parameters_on_meta()``.
        path: A safetensors file, its index ("model.safetensors.index.json"), or a folder that holds one index
            or any number of files.
        prefix: What every name in the files begins with and no name in the model does, such as "model.".
            Names without it are left alone.
        buffers: Buffers that no file holds, by their name in the model.
        strict: Whether a tensor that the model has no place for is an error.

    Raises:
        ModelFileError: If a file cannot be read, a tensor is missing, is not expected or has another shape,
            or a buffer that no file holds is on the meta device; the model is then as it was.
    """
    files = _files(Path(path))
    held = {
        name[len(prefix) :]: (file, name) for file in files for name in file.places if name.startswith(prefix)
    }
    places = _places(model)
    found: dict[str, torch.Tensor] = dict(buffers or {})
    for name in held.keys() & places.keys():
        file, stored = held[name]
        _check_shape(name, file.places[stored].shape, places[name])
        found[name] = file.tensor(stored)
    values = _values(model, found)
    _check_names(model, found, values, held.keys() if strict else (), Path(path))
    for name, tensor in values.items():
        _put(model, name, tensor)


def _files(path: Path) -> list[SafetensorsFile]:
    """Return the files that a path names, those of an index where there is one."""
    if path.is_dir():
        indices = sorted(path.glob(_INDEX))
        files = sorted(path.glob("*.safetensors"))
        if len(indices) == 1:
            return _files(indices[0])
        if not files:
            raise ModelFileError(
                f"The folder '{path}' holds no safetensors file.", remedy="Name one that does."
            )
        return [SafetensorsFile(file) for file in files]
    if path.suffix != ".json":
        return [SafetensorsFile(path)]
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        return [SafetensorsFile(path.parent / str(name)) for name in sorted(shards)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"'{path}' cannot be read as an index: {error}.", remedy="It names a shard for each tensor."
        ) from error


def _places(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and buffer by each of its names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _values(model: nn.Module, found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what the model is to hold, by each name; the same tensor where the model holds the same."""
    places = _places(model)
    made: dict[int, torch.Tensor] = {}
    for name, old in places.items():
        if name in found and id(old) not in made:
            new = found[name]
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad and new.is_floating_point())
                vars(new).update(vars(old))
            made[id(old)] = new
    return {name: made[id(old)] for name, old in places.items() if id(old) in made}


def _check_shape(name: str, shape: tuple[int, ...], place: torch.Tensor) -> None:
    if shape != tuple(place.shape):
        raise ModelFileError(
            f"'{name}' has shape {shape} in the file and {tuple(place.shape)} in the model.",
            layer=name.rpartition(".")[0] or None,
            remedy="Build the model from the configuration that the files belong to.",
        )


def _check_names(
    model: nn.Module,
    found: Mapping[str, torch.Tensor],
    values: Mapping[str, torch.Tensor],
    given: Iterable[str],
    path: Path,
) -> None:
    places = _places(model)
    stored = model.state_dict(keep_vars=True).keys()
    missing = [name for name in stored if name in places and name not in values]
    if missing:
        raise ModelFileError(
            f"{len(missing)} tensor(s) of the model are not in '{path}', first '{missing[0]}'.",
            layer=missing[0].rpartition(".")[0] or None,
            remedy="Name the folder of all shards; where names in the files begin with more, pass prefix=.",
        )
    unreal = [name for name, tensor in places.items() if tensor.device.type == "meta" and name not in values]
    if unreal:
        raise ModelFileError(
            f"The buffer '{unreal[0]}' is on the meta device, and no file holds it.",
            layer=unreal[0].rpartition(".")[0] or None,
            remedy="Build the model under fxquant.parameters_on_meta(), so that it computes its buffers, or "
            "pass buffers={name: tensor}.",
        )
    unexpected = [name for name in (*given, *found) if name not in places]
    if unexpected:
        raise ModelFileError(
            f"The model has no place for {len(unexpected)} tensor(s), first '{unexpected[0]}'.",
            layer=unexpected[0].rpartition(".")[0] or None,
            remedy="Build the model that the files belong to, or pass prefix=, or strict=False.",
        )


def _put(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(tensor, nn.Parameter):
        module._parameters[own] = tensor
    else:
        module._buffers[own] = tensor
