"""load_encodings: give the quantizers of a prepared model the encodings of a file.

Everything is checked first: an error leaves the model as it was.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import fx

from fxquant.errors import EncodingsError, FxQuantError
from fxquant.export.encoding_sites import EncodingSite, encoding_sites, float_biases
from fxquant.export.encodings import entry_of
from fxquant.export.read_encodings import EncodingsFile, read_encodings
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize
from fxquant.quantization.affine.encoding_dict import block_length
from fxquant.quantization.affine.exact_encoding import check_fits, set_exactly
from fxquant.quantization.affine.grid import integer_grid
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.affine.quantizer_base import AffineQuantizerBase

_LISTED = 5  # names in an error
_PREPARE = "Prepare the model as the one that the file was written from: with the same target and passes."

_Numbers = tuple[torch.Tensor, torch.Tensor]  # scale and offset


def load_into(
    gm: fx.GraphModule, path: Path, strict: bool = True, partial: bool = False, allow_overwrite: bool = True
) -> None:
    """Give a prepared model's quantizers the encodings of a file, to the last bit.

    int32 biases of versions 2.x are passed over: ``convert`` derives them from the others.

    Args:
        gm: A prepared model.
        path: An encodings file of any version.
        strict: Whether an entry without a quantizer is an error.
        partial: Whether quantizers without an entry stay as they are; if not, they are an error.
        allow_overwrite: Whether a later calibration may change the ranges, as far as it may before.

    Raises:
        EncodingsError: If the file cannot be read, or does not fit the model; names the file and the tensor.
    """
    file = read_encodings(path)
    sites = list(encoding_sites(gm))
    by_name = {site.name: site for site in sites if site.name in file.entries}
    derived = {name for name in file.entries.keys() & float_biases(gm) if _is_int32(file.entries[name])}
    unknown = file.entries.keys() - by_name.keys() - derived
    if unknown and strict:
        remedy = "Load a file that was written from this model, or pass strict=False to pass over them."
        raise _wrong(file, f"the model quantizes no tensor {_listed(unknown)}", remedy)
    missing = [site.name for site in sites if site.name not in file.entries and _has_entry(site, file)]
    if missing and not partial:
        remedy = "Load a file that was written from this model, or pass partial=True and calibrate them."
        raise _wrong(file, f"it has no entry for {_listed(missing)}", remedy)
    found = _numbers_by_quantizer(file, by_name)
    for quantizer, numbers in found.items():
        set_exactly(quantizer, *numbers)
        if not allow_overwrite:
            quantizer.allow_overwrite(False)


def _numbers_by_quantizer(
    file: EncodingsFile, sites: dict[str, EncodingSite]
) -> dict[AffineQuantizerBase, _Numbers]:
    found: dict[AffineQuantizerBase, _Numbers] = {}
    names: dict[AffineQuantizerBase, str] = {}
    for name, site in sites.items():
        numbers = _checked(file, site)
        if numbers is None:
            continue
        quantizer: Any = site.quantizer
        before = found.setdefault(quantizer, numbers)
        first = names.setdefault(quantizer, name)
        if not all(torch.equal(one, other) for one, other in zip(before, numbers, strict=True)):
            what = f"tensors '{first}' and '{name}' lie on one grid in this model, and their entries differ"
            raise _wrong(file, what, "Give them equal entries, or leave one of them out.")
    return found


def _checked(file: EncodingsFile, site: EncodingSite) -> _Numbers | None:
    """Return the scale and offset that a quantizer is to have; None where it has what its entry says."""
    entry = file.entries[site.name]
    quantizer = site.quantizer
    try:
        if not isinstance(quantizer, AffineQuantizerBase):
            if _own_entry(site, file) != _nameless(entry):
                raise _misfit(file, site, "the model has a float type there that the entry does not describe")
            return None
        if _is_float(entry):
            raise _misfit(file, site, "it is of a float type, and the model has integers there")
        if _count(entry) != math.prod(quantizer.shape):
            what = f"it has {_count(entry)} scale(s), and the model {math.prod(quantizer.shape)}"
            raise _misfit(file, site, what)
        numbers = _on_grid_of(file, site, quantizer, _encoding(entry, quantizer))
        check_fits(quantizer, *numbers)
        return numbers
    except EncodingsError:
        raise
    except FxQuantError as error:  # of the entry's own arithmetic
        raise _misfit(file, site, error.what.rstrip("."), error.remedy or _PREPARE) from error


def _encoding(entry: Any, quantizer: AffineQuantizerBase) -> AffineEncoding:
    is_grouped = isinstance(quantizer, GroupedBlockQuantizeDequantize)
    if is_grouped and ("per_block_int_scale" in entry or isinstance(_scales(entry), dict)):
        return GroupedBlockEncoding.from_qnn_encoding_dict(entry, quantizer.shape, quantizer.group_shape)
    return AffineEncoding.from_qnn_encoding_dict(entry, quantizer.shape)


def _on_grid_of(
    file: EncodingsFile, site: EncodingSite, quantizer: AffineQuantizerBase, encoding: AffineEncoding
) -> _Numbers:
    """Return scale and offset as a quantizer counts them, whose grid may be narrow, or signed."""
    own = AffineEncoding.on_grid_of(quantizer, torch.ones(quantizer.shape), torch.zeros(quantizer.shape))
    if encoding.storage_bits != own.storage_bits:
        what = f"it has {encoding.storage_bits} bits, and the model {own.storage_bits}"
        raise _misfit(file, site, what)
    if encoding.zero_point_shift != own.zero_point_shift:
        raise _misfit(file, site, f"its grid is shifted by {encoding.zero_point_shift}")
    _check_layout(file, site, own)
    lowest, _ = integer_grid(own.storage_bits, own.qmin < 0)
    offset = encoding.offset + (encoding.qmin - lowest)
    return encoding.scale.reshape(quantizer.shape), offset.reshape(quantizer.shape)


def _check_layout(file: EncodingsFile, site: EncodingSite, own: AffineEncoding) -> None:
    """Check that scales serve the channels and blocks that the model has, as far as the entry says."""
    entry = file.entries[site.name]
    if isinstance(entry, list) or own.scale.numel() == 1:
        return
    channel_axis, block_axis, length = block_length(own, site.shape)
    if entry.get("block_size") != length:
        raise _misfit(
            file, site, f"its blocks have the length {entry.get('block_size')}, the model's {length}"
        )
    axis, wanted = entry.get("axis"), channel_axis if block_axis is None else block_axis
    rank = len(own.scale.shape if site.shape is None else site.shape)
    if axis is not None and wanted is not None and axis not in (wanted, wanted + rank):
        raise _misfit(file, site, f"its scales lie along axis {axis}, the model's along {wanted + rank}")


def _count(entry: Any) -> int:
    """Return how many scales an entry has."""
    if isinstance(entry, list):
        return len(entry)
    scales = _scales(entry)
    scales = scales["x"] if isinstance(scales, dict) else entry.get("per_block_int_scale", scales)
    return int(torch.tensor(scales).numel())


def _scales(entry: Any) -> Any:
    return None if isinstance(entry, list) else entry.get("y_scale", entry.get("scale"))


def _is_float(entry: Any) -> bool:
    first = entry[0] if isinstance(entry, list) else entry
    return str(first.get("dtype", first.get("output_dtype"))).lower().startswith("float")


def _is_int32(entry: Any) -> bool:
    return not isinstance(entry, list) and entry.get("output_dtype") == "int32"


def _has_entry(site: EncodingSite, file: EncodingsFile) -> bool:
    """Whether a version has entries for what a site holds: 2.x have none for 16-bit floats."""
    if isinstance(site.quantizer, AffineQuantizerBase):
        return True
    return bool(_own_entry(site, file))


def _own_entry(site: EncodingSite, file: EncodingsFile) -> Any:
    """Return the entry that a file of the same version has for a site as it is; None if there is none."""
    encoding = site.quantizer.get_encodings()
    return None if encoding is None else entry_of(site, encoding, file.version)


def _nameless(entry: Any) -> Any:
    return entry if isinstance(entry, list) else {name: entry[name] for name in entry if name != "name"}


def _misfit(file: EncodingsFile, site: EncodingSite, what: str, remedy: str = _PREPARE) -> EncodingsError:
    return _wrong(file, f"the entry of tensor '{site.name}' does not fit: {what}", remedy)


def _wrong(file: EncodingsFile, what: str, remedy: str) -> EncodingsError:
    return EncodingsError(f"The encodings file '{file.path}' does not fit the model: {what}.", remedy=remedy)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return ", ".join(f"'{name}'" for name in ordered[:_LISTED]) + more
