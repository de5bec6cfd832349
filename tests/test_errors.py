"""Errors: what they say, what they are, and that they can cross a process border."""

import copy
import pickle

import pytest

from fxquant import errors
from fxquant.errors import FxQuantError, QuantizerError, unknown_option

BUILT_INS = {
    "ModelTypeError": TypeError,
    "OptionError": ValueError,
    "OptionTypeError": TypeError,
    "UnsupportedError": NotImplementedError,
    "CaptureError": RuntimeError,
    "GraphError": RuntimeError,
    "GuardError": RuntimeError,
    "BatchError": ValueError,
    "NonFiniteError": ValueError,
    "NotCalibratedError": RuntimeError,
    "QuantizerError": RuntimeError,
    "StatisticsError": ValueError,
    "DistributedError": RuntimeError,
    "EncodingsError": ValueError,
    "ExportError": RuntimeError,
    "RefusalError": RuntimeError,
    "StandInError": ImportError,
    "MissingExtraError": ImportError,
    "ModelFileError": ValueError,
    "OffloadError": OSError,
}
COPIES = pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)


@pytest.mark.parametrize(("name", "built_in"), BUILT_INS.items(), ids=BUILT_INS)
def test_an_error_is_caught_as_ours_and_as_pythons(name: str, built_in: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), FxQuantError)
    assert issubclass(getattr(errors, name), built_in)


def test_every_error_is_listed_here() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in classes if name.endswith("Error")} == {*BUILT_INS, "FxQuantError"}


@pytest.mark.parametrize(
    ("layer", "remedy", "text"),
    [
        (None, "", "It broke."),
        ("block.conv", "", "It broke. (layer 'block.conv')"),
        (None, "Mend it.", "It broke. Mend it."),
        ("block.conv", "Mend it.", "It broke. (layer 'block.conv') Mend it."),
        ("", "Mend it.", "It broke. Mend it."),
    ],
    ids=["what", "where", "remedy", "all", "empty-layer"],
)
def test_the_message_says_what_where_and_what_to_do(layer: str | None, remedy: str, text: str) -> None:
    error = QuantizerError("It broke.", layer=layer, remedy=remedy)
    assert str(error) == text
    assert (error.what, error.layer, error.remedy) == ("It broke.", layer, remedy)


@COPIES
def test_an_error_outlives_a_process_border(duplicate: object) -> None:
    error = duplicate(QuantizerError("It broke.", layer="conv", remedy="Mend it."))  # type: ignore[operator]
    assert type(error) is QuantizerError
    assert str(error) == "It broke. (layer 'conv') Mend it."
    assert (error.what, error.layer, error.remedy) == ("It broke.", "conv", "Mend it.")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("tensorr", "There is no target 'tensorr'. Did you mean 'tensorrt'? Known: qualcomm, tensorrt."),
        ("QUALCOM", "There is no target 'QUALCOM'. Did you mean 'qualcomm'? Known: qualcomm, tensorrt."),
        ("x", "There is no target 'x'. Known: qualcomm, tensorrt."),
    ],
    ids=["near", "case", "far"],
)
def test_an_unknown_name_suggests_the_nearest(given: str, text: str) -> None:
    assert str(unknown_option("target", given, ["tensorrt", "qualcomm"])) == text
