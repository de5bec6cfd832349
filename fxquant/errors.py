"""Every error fxquant raises: what happened, where (the user's layer), and one thing to do about it."""

import difflib
from collections.abc import Iterable, Sequence


class FxQuantError(Exception):
    """Base of all fxquant errors.

    Args:
        what: One sentence on what happened.
        layer: Dotted path of the user's layer it happened in; None when no layer is concerned.
        remedy: One thing the user can do; empty when there is nothing to do.
    """

    def __init__(self, what: str, *, layer: str | None = None, remedy: str = "") -> None:
        where = f" (layer '{layer}')" if layer else ""
        then = f" {remedy}" if remedy else ""
        super().__init__(f"{what}{where}{then}")
        self.what = what
        self.layer = layer
        self.remedy = remedy


class ModelTypeError(FxQuantError, TypeError):
    """The object given is not a model of the kind the verb takes."""


class OptionError(FxQuantError, ValueError):
    """A target, pass, version or option that does not exist or is out of range."""


class OptionTypeError(FxQuantError, TypeError):
    """An option of a type that is not taken, or values of a kind that an option rules out."""


class UnsupportedError(FxQuantError, NotImplementedError):
    """An option that has a meaning, but nothing here that does it."""


class CaptureError(FxQuantError, RuntimeError):
    """The model's forward could not be captured as a graph."""


class GuardError(FxQuantError, RuntimeError):
    """A captured graph runs on inputs that differ in what the capture had to fix."""


class GraphError(FxQuantError, RuntimeError):
    """A graph breaks the rules that every pass relies on."""


class BatchError(FxQuantError, ValueError):
    """A batch that the model does not take, or data that has no batches at all."""


class NonFiniteError(FxQuantError, ValueError):
    """NaN or Inf where a quantization range was to be measured."""


class OffloadError(FxQuantError, OSError):
    """Values that could not be kept while a model runs block by block."""


class StatisticsError(FxQuantError, ValueError):
    """Statistics that cannot be read, or that do not hold what is asked of them."""


class DistributedError(FxQuantError, RuntimeError):
    """Another process of a distributed job failed in a way of its own, or was lost."""


class NotCalibratedError(FxQuantError, RuntimeError):
    """A quantizer has no range yet."""


class QuantizerError(FxQuantError, RuntimeError):
    """A quantizer that does not fit its tensor, its grid or its use."""


class EncodingsError(FxQuantError, ValueError):
    """An encodings file that cannot be read, or that does not fit the model."""


class ModelFileError(FxQuantError, ValueError):
    """A file that cannot be read as a model."""


class ExportError(FxQuantError, RuntimeError):
    """The model could not be written, or what was written does not read back."""


class RefusalError(ExportError):
    """A runtime does not take a file, or not for inputs of the sizes given."""


class StandInError(FxQuantError, ImportError):
    """A package of ours cannot answer to another's name: that one is there already."""


class MissingExtraError(FxQuantError, ImportError):
    """Something needs a package that fxquant does not install by itself."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for a message of our own."""
    return (str(error).strip() or "no message").splitlines()[0]


def some_of(names: Sequence[str]) -> str:
    """Return up to five names, quoted, and whether there are more, for a message."""
    return ", ".join(f"'{name}'" for name in names[:5]) + (" ..." if len(names) > 5 else "")


def missing_extra(what: str, package: str, extra: str) -> MissingExtraError:
    """Return the error for an optional package that is not there, with the line that installs it."""
    return MissingExtraError(
        f"{what} needs the package '{package}'.", remedy=f"Install it: pip install 'fxquant[{extra}]'"
    )


def unknown_option(kind: str, given: object, known: Iterable[str]) -> OptionError:
    """Return the error for a name that is not among the known ones, suggesting the nearest."""
    names = sorted(known)
    nearest = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.5)
    hint = f"Did you mean '{nearest[0]}'? " if nearest else ""
    return OptionError(f"There is no {kind} '{given}'.", remedy=f"{hint}Known: {', '.join(names)}.")
