"""ModuleEncodings: the encodings of a quantized module as entries of encodings files, out and in."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fxquant.errors import QuantizerError
from fxquant.nn.removal import keys_of
from fxquant.quantization import QuantizerBase

Entry = dict[str, Any] | list[dict[str, Any]] | None


class ModuleEncodings:
    """Export and import of the encodings of a quantized module's inputs, outputs and parameters."""

    input_quantizers: nn.ModuleList
    output_quantizers: nn.ModuleList
    param_quantizers: nn.ModuleDict

    def export_input_encodings(self, encoding_version: str) -> list[Entry]:
        """Return the entry of each input; None for one without an encoding."""
        return [_entry(quantizer, encoding_version) for quantizer in self.input_quantizers]

    def export_output_encodings(self, encoding_version: str) -> list[Entry]:
        """Return the entry of each output; None for one without an encoding."""
        return [_entry(quantizer, encoding_version) for quantizer in self.output_quantizers]

    def export_param_encodings(self, encoding_version: str) -> dict[str, Entry]:
        """Return the entry of each parameter, or of the encoding it carries; None for one without."""
        entries: dict[str, Entry] = {}
        quantizers: Any = self.param_quantizers
        for name, quantizer in quantizers.items():
            parameter = getattr(self, name)
            encoding: Any = getattr(parameter, "encoding", None)
            if quantizer is None and encoding is not None:
                entries[name] = encoding.to_qnn_encoding_dict(encoding_version, parameter.shape)
            else:
                entries[name] = _entry(quantizer, encoding_version, getattr(parameter, "shape", None))
        return entries

    def import_input_encodings(self, encodings: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Take the encodings of inputs, entries by index as text; see ``import_into``."""
        import_into(self.input_quantizers, "input encoding at index", encodings, *args, **kwargs)

    def import_output_encodings(self, encodings: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Take the encodings of outputs, entries by index as text; see ``import_into``."""
        import_into(self.output_quantizers, "output encoding at index", encodings, *args, **kwargs)

    def import_param_encodings(self, encodings: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Take the encodings of parameters, entries by name; see ``import_into``."""
        import_into(self.param_quantizers, "encoding for parameter", encodings, *args, **kwargs)


def import_into(
    quantizers: Any,
    what: str,
    encodings: Mapping[str, Any],
    strict: bool = True,
    partial: bool = True,
    requires_grad: bool | None = None,
    allow_overwrite: bool | None = True,
) -> None:
    """Set the ranges of quantizers from entries of version 0.6.1.

    Args:
        quantizers: A ModuleList or ModuleDict of quantizers.
        what: What they are, for the error.
        encodings: Entries by index, as text, or by name.
        strict: Whether an entry for an absent quantizer is an error.
        partial: Whether quantizers without an entry stay; if not, they are removed.
        requires_grad: Whether the ranges are trained from then on; None leaves that as it is.
        allow_overwrite: Whether a later calibration may change them; None leaves that as it is.

    Raises:
        QuantizerError: If an entry has no quantizer and ``strict`` is set.
    """
    for key in keys_of(quantizers):
        quantizer, entry = quantizers[key], encodings.get(str(key))
        if quantizer is not None and not quantizer.is_overwrite_allowed():
            continue
        if not entry:
            quantizers[key] = quantizer if partial else None
        elif quantizer is not None:
            quantizer.set_legacy_encodings([entry] if isinstance(entry, dict) else entry)
            if requires_grad is not None:
                quantizer.requires_grad_(requires_grad)
            if allow_overwrite is not None:
                quantizer.allow_overwrite(allow_overwrite)
        elif strict:
            raise QuantizerError(f"Failed to import {what} {key}: no quantizer present.")


def _entry(quantizer: Any, version: str, shape: Any = None) -> Entry:
    if not isinstance(quantizer, QuantizerBase) or not quantizer.is_initialized():
        return None
    encoding = quantizer.get_encodings()
    return None if encoding is None else encoding.to_qnn_encoding_dict(version, shape)
