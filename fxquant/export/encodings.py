"""encodings_json: the encodings of a model for Qualcomm's tools, formats 0.6.1, 1.0.0, 2.0.0 and 2.1.0.

The sections, their order and the entries are those that AIMET 2.42 writes. Scales are written with as many
digits as it takes to read the same float32 back.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

from torch import fx

from fxquant.errors import NotCalibratedError, unknown_option
from fxquant.export.bias_encodings import bias_encodings
from fxquant.export.encoding_sites import EncodingSite, encoding_sites
from fxquant.quantization import AffineEncoding, EncodingBase
from fxquant.quantization.affine import FrozenDequantize

VERSIONS = ("0.6.1", "1.0.0", "2.0.0", "2.1.0")
DEFAULT_VERSION = "1.0.0"

_ONE_LIST = VERSIONS[2:]  # parameters and activations in one list, biases among them
_PACKAGE = "fxquant"

Entry = dict[str, Any]
_Found = tuple[EncodingSite, EncodingBase]


def encodings_json(
    gm: fx.GraphModule,
    version: str | None = None,
    quantizer_args: Mapping[str, Any] | None = None,
    excluded_layers: Sequence[str] = (),
    int32_biases: bool = False,
) -> dict[str, Any]:
    """Return activation and parameter encodings as the JSON document of a format.

    Tensors have the names they have in the ONNX file. In 0.6.1 and 1.0.0 an offset counts from the lowest
    code of an unsigned grid: minus the zero point, and 2^(b-1) less for a signed one. They have no biases,
    whose int32 encodings follow from others.

    Args:
        gm: A quantized model, or a prepared one whose quantizers all have a range.
        version: One of ``VERSIONS``; None for 1.0.0, or 2.0.0 where there are float types of 8 bits, which
            1.0.0 has no words for.
        quantizer_args: What a simulation's quantizers are by default, in versions before 2; by default what
            most of the encodings have in common.
        excluded_layers: Layers that were left in float; versions before 2 list them.
        int32_biases: Whether versions from 2 on list the encodings that biases in float are to have, too.

    Raises:
        OptionError: If there is no such format.
        NotCalibratedError: If a quantizer has no range.
        QuantizerError: If an encoding cannot be said in it.
    """
    found = list(_encodings(gm))
    version = _lowest_version(found) if version is None else version
    check_version(version)
    head = {"producer": {"package": _PACKAGE, "version": version_of(_PACKAGE)}, "version": version}
    if version in _ONE_LIST:
        found = _with_biases(gm, found) if int32_biases else found
        return head | {"encodings": _named(_entries(found, version))}
    found = [(site, encoding) for site, encoding in found if not site.is_derived]
    sections = {
        "activation_encodings": [(site, encoding) for site, encoding in found if not site.is_parameter],
        "param_encodings": [(site, encoding) for site, encoding in found if site.is_parameter],
    }
    kinds = {section: _entries(part, version) for section, part in sections.items()}
    common = _arguments(found) if quantizer_args is None else dict(quantizer_args)
    return (
        head
        | (kinds if version == VERSIONS[0] else {section: _named(part) for section, part in kinds.items()})
        | {"excluded_layers": list(excluded_layers), "quantizer_args": common}
    )


def _lowest_version(found: list[_Found]) -> str:
    is_narrow = any(encoding.mapping == "float" and encoding.bitwidth < 16 for _, encoding in found)
    return _ONE_LIST[0] if is_narrow else DEFAULT_VERSION


def check_version(version: str) -> None:
    """Check that there is a format.

    Raises:
        OptionError: If there is none of this version.
    """
    if version not in VERSIONS:
        raise unknown_option("encodings format", version, VERSIONS)


def entry_of(site: EncodingSite, encoding: EncodingBase, version: str) -> Any:
    """Return the entry of a tensor without its name: a dict, or in 0.6.1 a list of them; empty for none."""
    entry = encoding.to_qnn_encoding_dict(version, site.shape)
    if site.shape is not None and isinstance(entry, dict) and entry.get("axis", 0) < 0:
        entry["axis"] += len(site.shape)  # of a constant, whose rank is known, from the first
    return entry


def _encodings(gm: fx.GraphModule) -> list[_Found]:
    found = []
    for site in encoding_sites(gm):
        encoding = site.quantizer.get_encodings()
        if encoding is None:
            raise NotCalibratedError(
                f"The quantizer of tensor '{site.name}' has no range.",
                remedy="Call fxquant.calibrate(prepared, batches) first.",
            )
        found.append((site, encoding))
    return found


def _with_biases(gm: fx.GraphModule, found: list[_Found]) -> list[_Found]:
    """Add the encodings that float biases are to have, each after that of its layer's weight."""
    biases = bias_encodings(gm)
    more: list[_Found] = []
    for site, encoding in found:
        more.append((site, encoding))
        layer, _, parameter = site.name.rpartition(".")
        bias = biases.get(f"{layer}.bias") if parameter == "weight" and site.is_parameter else None
        if bias is not None:
            quantizer = FrozenDequantize.from_encodings(bias)
            shape = tuple(bias.scale.shape)
            more.append((EncodingSite(name=f"{layer}.bias", quantizer=quantizer, shape=shape), bias))
    return more


def _entries(found: list[_Found], version: str) -> dict[str, Any]:
    """Return the entry of each tensor; 2.x do not count 16-bit floats as quantized."""
    entries = {site.name: entry_of(site, encoding, version) for site, encoding in found}
    return {name: entry for name, entry in entries.items() if entry}


def _named(entries: dict[str, Entry]) -> list[Entry]:
    return [{"name": name} | entry for name, entry in entries.items()]


def _arguments(found: list[_Found]) -> dict[str, Any]:
    """Return what most encodings have in common, as AIMET lists the defaults of a simulation."""
    parameters = [encoding for site, encoding in found if site.is_parameter]
    activations = [encoding for site, encoding in found if not site.is_parameter]
    symmetries = [bool(getattr(encoding, "symmetry", True)) for encoding in parameters]
    return {
        "quant_scheme": "min_max",  # how calibrate finds ranges
        "param_bitwidth": _most_common([_bits(encoding) for encoding in parameters], 8),
        "activation_bitwidth": _most_common([_bits(encoding) for encoding in activations], 8),
        "dtype": _most_common(["float" if e.mapping == "float" else "int" for e in parameters], "int"),
        "is_symmetric": _most_common(symmetries, True),
        "per_channel_quantization": any(encoding.scale.numel() > 1 for encoding in parameters),
    }


def _bits(encoding: EncodingBase) -> int:
    return encoding.storage_bits if isinstance(encoding, AffineEncoding) else encoding.bitwidth


def _most_common(values: list[Any], default: Any) -> Any:
    return Counter(values).most_common(1)[0][0] if values else default
