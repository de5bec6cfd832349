import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxquant.errors import EncodingsError
from fxquant.export import VERSIONS, encodings_json, load_into
from tests.export import documents

QUICK = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=documents.KINDS)
def model(request):
    return documents.calibrated(request.param)


@pytest.fixture(params=VERSIONS)
def document(request, model):
    return encodings_json(model, request.param)


@pytest.mark.slow
@QUICK
@given(data=st.data())
def test_spoiled_document_loads_or_is_refused_and_then_changes_nothing(model, document, tmp_path, data):
    spoiled = document
    for _ in range(data.draw(st.integers(1, 3))):
        spoiled = documents.spoiled(spoiled, data.draw)
    (tmp_path / "file").write_text(json.dumps(spoiled), encoding="utf-8")
    before = documents.numbers_of(model)
    error = refusal(model, tmp_path / "file")
    if error is not None:
        assert str(tmp_path / "file") in str(error)
        assert error.remedy
        after = documents.numbers_of(model)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.slow
@QUICK
@given(data=st.data())
def test_spoiled_bytes_load_or_are_refused(model, document, tmp_path, data):
    text = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        text[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    (tmp_path / "file").write_bytes(text[: data.draw(st.sampled_from([len(text), len(text) // 2]))])
    refusal(model, tmp_path / "file")


def refusal(model, path):
    """Return the error of a file that is refused; any other kind of error is raised."""
    try:
        load_into(model, path)
    except EncodingsError as error:
        return error
    return None
