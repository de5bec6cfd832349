"""read_encodings: an encodings file, checked entry by entry before anything uses it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxquant.errors import EncodingsError
from fxquant.export.encodings import VERSIONS
from fxquant.export.entry_forms import complaint

_WRITTEN = "Write it anew with fxquant.export, or mend it there."
_SECTIONS = ("activation_encodings", "param_encodings")
_BY_MODULE = ("input", "output")
_HEAD = ("version", "producer")
_REST = ("excluded_layers", "quantizer_args")


@dataclass(frozen=True, kw_only=True)
class EncodingsFile:
    """What an encodings file says.

    Attributes:
        path: Where it was read from.
        version: The version of its format.
        entries: By the tensor's name, an entry; a list of them, one for each scale, in 0.6.1.
    """

    path: Path
    version: str
    entries: dict[str, Any]


def read_encodings(path: Path) -> EncodingsFile:
    """Read and check an encodings file of any of ``VERSIONS``.

    Raises:
        EncodingsError: If it cannot be read or an entry is not sound; names the file and the entry.
    """
    document = read_document(path)
    version = document.get("version")
    if version not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise _wrong(path, f"its version is {version!r}", f"Write it in one of the versions {known}.")
    entries: dict[str, Any] = {}
    for name, entry in _entries(path, document, version):
        found = complaint(entry, version)
        if found is not None:
            raise _wrong(path, f"the entry of tensor '{name}' is not sound: {found}")
        if name in entries:
            raise _wrong(path, f"tensor '{name}' has two entries")
        entries[name] = entry
    return EncodingsFile(path=path, version=version, entries=entries)


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object, with no name twice in one object, and numbers only that are finite.

    Raises:
        EncodingsError: If there is no such file, or it holds something else.
    """
    try:
        document = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_not_a_number
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise _wrong(path, f"it cannot be read: {reason}", "Check the path.") from error
    except RecursionError as error:
        raise _wrong(path, "its lists are nested too deeply") from error
    except ValueError as error:  # not UTF-8, not JSON, or one of the two refusals below
        raise _wrong(path, str(error)) from error
    if not isinstance(document, dict):
        raise _wrong(path, "it is JSON, but not an object of sections")
    return document


def _entries(path: Path, document: Mapping[str, Any], version: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and entries of a document, as yet unchecked."""
    sections = _SECTIONS if version < "2" else ("encodings",)
    _check_sections(path, document, sections)
    for section in sections:
        held = document[section]
        if version == "0.6.1" and isinstance(held, Mapping):
            _check_is_by_tensor(path, held.values())
            yield from held.items()
        elif version != "0.6.1" and isinstance(held, list):
            for index, entry in enumerate(held):
                name = entry.get("name") if isinstance(entry, Mapping) else None
                if not isinstance(name, str):
                    raise _wrong(path, f"entry {index} of '{section}' has no name")
                yield name, entry
        else:
            kind = "an object of entries by tensor" if version == "0.6.1" else "a list of entries"
            raise _wrong(path, f"'{section}' is not {kind}, which version {version} has there")


def _check_sections(path: Path, document: Mapping[str, Any], sections: tuple[str, ...]) -> None:
    missing = [section for section in sections if section not in document]
    known = {*_HEAD, *sections, *(_REST if sections == _SECTIONS else ())}
    unknown = sorted(document.keys() - known)
    if missing:
        raise _wrong(path, f"it has no section '{missing[0]}'")
    if unknown:
        raise _wrong(path, f"its section '{unknown[0]}' is none of this version: {', '.join(sorted(known))}")


def _check_is_by_tensor(path: Path, entries: Iterable[Any]) -> None:
    if any(isinstance(entry, Mapping) and set(entry) & set(_BY_MODULE) for entry in entries):
        raise _wrong(
            path,
            "its activations are listed by module, not by tensor",
            "Give it to QuantizationSimModel.load_encodings, which writes such files.",
        )


def _wrong(path: Path, what: str, remedy: str = _WRITTEN) -> EncodingsError:
    return EncodingsError(f"The encodings file '{path}' cannot be used: {what}.", remedy=remedy)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{name}' is in it twice")
        found[name] = value
    return found


def _not_a_number(text: str) -> float:
    raise ValueError(f"it holds {text}, which is no number of JSON")
