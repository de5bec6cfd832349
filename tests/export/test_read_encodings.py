import json

import pytest

from fxquant.errors import EncodingsError
from fxquant.export import VERSIONS, encodings_json, read_encodings
from tests.export import documents


@pytest.fixture(scope="module")
def model():
    return documents.calibrated()


@pytest.fixture(scope="module")
def grouped():
    return documents.calibrated("groups")


def refusal(path):
    """Return what is said of a file that is refused; it must name the file and a remedy."""
    with pytest.raises(EncodingsError) as raised:
        read_encodings(path)
    assert str(path) in str(raised.value)
    assert raised.value.remedy
    return raised.value.what


def refusal_of(document, folder):
    (folder / "file").write_text(json.dumps(document), encoding="utf-8")
    return refusal(folder / "file")


@pytest.mark.parametrize("version", VERSIONS)
def test_file_gives_back_what_was_written(version, model, tmp_path):
    document = encodings_json(model, version)
    found = read_encodings(documents.written(model, tmp_path / "file", version))
    assert (found.path, found.version) == (tmp_path / "file", version)
    if version == "0.6.1":
        assert found.entries == document["activation_encodings"] | document["param_encodings"]
    else:
        sections = ("activation_encodings", "param_encodings", "encodings")
        assert list(found.entries.values()) == [e for section in sections for e in document.get(section, [])]


BROKEN = {
    "empty": (b"", "Expecting value"),
    "truncated": (b'{"version": "1.0.0", "activation_enc', "Unterminated string"),
    "list": (b"[]", "not an object"),
    "not_utf8": (b'{"version": "\xff"}', "codec can't decode"),
    "not_a_number": (b'{"version": "1.0.0", "x": NaN}', "holds NaN"),
    "infinite": (b'{"version": "1.0.0", "x": -Infinity}', "holds -Infinity"),
    "twice": (b'{"version": "1.0.0", "version": "1.0.0"}', "'version' is in it twice"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "long_number": (b'{"x": ' + b"1" * 10_000 + b"}", "integer string"),
    "no_version": (b"{}", "its version is None"),
    "other_version": (b'{"version": "3.0.0"}', "its version is '3.0.0'"),
    "version_of_another_type": (b'{"version": ["1.0.0"]}', r"its version is ['1.0.0']"),
}


@pytest.mark.parametrize(("contents", "said"), BROKEN.values(), ids=BROKEN)
def test_file_that_is_no_document_is_refused(contents, said, tmp_path):
    (tmp_path / "file").write_bytes(contents)
    assert said in refusal(tmp_path / "file")


def test_file_that_is_not_there_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "file")
    assert "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_section_that_is_missing_unknown_or_of_another_type_is_refused(version, model, tmp_path):
    document = encodings_json(model, version)
    section = "encodings" if version >= "2" else "param_encodings"
    without = {name: value for name, value in document.items() if name != section}
    assert f"no section '{section}'" in refusal_of(without, tmp_path)
    assert "its section 'more'" in refusal_of(document | {"more": []}, tmp_path)
    assert f"'{section}' is not" in refusal_of(document | {section: "text"}, tmp_path)


def test_file_of_encodings_by_module_says_who_reads_it(tmp_path):
    by_module = {"version": "0.6.1", "activation_encodings": {"conv": {"input": {}}}, "param_encodings": {}}
    assert "listed by module" in refusal_of(by_module, tmp_path)


def test_tensor_with_two_entries_is_refused(model, tmp_path):
    document = encodings_json(model, "1.0.0")
    document["activation_encodings"] *= 2
    assert "'x' has two entries" in refusal_of(document, tmp_path)


def test_entry_without_a_name_is_refused(model, tmp_path):
    document = encodings_json(model, "2.0.0")
    document["encodings"][1] = 7
    assert "entry 1 of 'encodings' has no name" in refusal_of(document, tmp_path)


CHANGES = {
    "text_for_a_number": ({"scale": ["0.1"]}, "'scale' is ['0.1']"),
    "negative_scale": ({"scale": [-0.1]}, "'scale' is [-0.1], not a list of positive numbers"),
    "scale_of_zero": ({"scale": [0]}, "'scale'"),
    "scale_past_float32": ({"scale": [1e39]}, "'scale'"),
    "scale_below_float32": ({"scale": [1e-60]}, "'scale'"),
    "huge_whole_scale": ({"scale": [10**60]}, "'scale'"),
    "no_scales": ({"scale": [], "offset": []}, "'scale' is []"),
    "bare_scale": ({"scale": 0.1}, "'scale' is 0.1"),
    "offset_in_between": ({"offset": [0.5]}, "'offset' is [0.5], not a list of whole numbers"),
    "bits_in_between": ({"bw": 7.5}, "'bw' is 7.5"),
    "true_for_bits": ({"bw": True}, "'bw' is True"),
    "too_many_bits": ({"bw": 64}, "'bw' is 64"),
    "text_for_a_flag": ({"is_sym": "True"}, "'is_sym' is 'True'"),
    "unknown_kind": ({"enc_type": "VECTOR"}, "'enc_type' is 'VECTOR'"),
    "unknown_type": ({"dtype": "BOOL"}, "'dtype' is 'BOOL'"),
    "unknown_field": ({"zero_pont": 3}, "'zero_pont' is none of its fields"),
    "missing_offsets": ({"scale": [0.1, 0.2]}, "2 scales and 1 offsets"),
    "several_per_tensor": ({"scale": [0.1, 0.2], "offset": [0, 0]}, "PER_TENSOR, and has 2"),
    "shifts": ({"zero_point_shift": [0.5, 0.5]}, "'zero_point_shift' is not the same"),
    "null": ({"offset": None}, "'offset' is null"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_entry_of_version_1_that_is_not_sound_is_refused(change, said, model, tmp_path):
    document = encodings_json(model, "1.0.0")
    document["activation_encodings"][0].update(change)
    text = refusal_of(document, tmp_path)
    assert said in text
    assert "tensor 'x'" in text


RANGES = {
    "one_end": ({"min": -100.0}, "from 'min' to 'max'"),
    "scale_alone": ({"scale": 1.0}, "from 'min' to 'max'"),
    "flag": ({"is_symmetric": True}, "'is_symmetric' is True"),
    "offset": ({"offset": 1.5}, "'offset' is 1.5"),
    "bits": ({"bitwidth": "8"}, "'bitwidth' is '8'"),
    "type": ({"dtype": "INT"}, "'dtype' is 'INT'"),
}


@pytest.mark.parametrize(("change", "said"), RANGES.values(), ids=RANGES)
def test_entry_of_version_0_that_is_not_sound_is_refused(change, said, model, tmp_path):
    document = encodings_json(model, "0.6.1")
    document["param_encodings"]["conv.weight"][1].update(change)
    text = refusal_of(document, tmp_path)
    assert said in text
    assert "tensor 'conv.weight' is not sound: in number 1" in text


def test_entries_of_one_tensor_that_differ_in_bits_are_refused(model, tmp_path):
    document = encodings_json(model, "0.6.1")
    document["param_encodings"]["conv.weight"][0] = document["activation_encodings"]["x"][0]
    assert "differ in bitwidth, dtype, is_symmetric" in refusal_of(document, tmp_path)


ATTRIBUTES = {
    "type": ({"output_dtype": "int64"}, "'output_dtype' is 'int64'"),
    "ragged": ({"y_scale": [[0.1], [0.1, 0.2]], "axis": 0, "block_size": 2}, "'y_scale' is [[0.1]"),
    "nested_without_blocks": ({"y_scale": [[0.1]]}, "nested scales need a 'block_size'"),
    "no_axis": ({"y_scale": [0.1, 0.2]}, "several scales need an 'axis'"),
    "zero_points": ({"y_zero_point": [0, 1]}, "'y_zero_point' has another shape"),
    "zero_point_of_a_float": (
        {"output_dtype": "float8e4m3fn", "y_scale": 0.1, "y_zero_point": 1},
        "a float type has no",
    ),
    "axis_outside": ({"y_scale": [[0.1]], "axis": 5, "block_size": 2}, "'axis' is 5"),
    "double": ({"y_scale": {"x": [[1]], "x_scale": [0.1], "axis": 0}}, "'y_scale' is an object"),
}


@pytest.mark.parametrize(("change", "said"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_entry_of_version_2_that_is_not_sound_is_refused(change, said, model, tmp_path):
    document = encodings_json(model, "2.0.0")
    document["encodings"][0] = {"name": "x", "output_dtype": "uint8", "y_scale": 0.5} | change
    assert said in refusal_of(document, tmp_path)


GROUPS = {
    "zero": ({"per_block_int_scale": [[0, 1]]}, "'per_block_int_scale'"),
    "unsigned": ({"output_dtype": "uint4"}, "signed integer type"),
    "shape": ({"per_channel_float_scale": [0.1, 0.1, 0.1]}, "another number of dimensions"),
    "counts": ({"per_channel_float_scale": [[[[0.1]]]] * 3}, "do not fit those of blocks"),
    "axis": ({"axis": 4}, "'axis' is 4"),
}


@pytest.mark.parametrize(("change", "said"), GROUPS.values(), ids=GROUPS)
def test_groups_that_are_not_sound_are_refused(change, said, grouped, tmp_path):
    document = encodings_json(grouped, "2.0.0")
    next(entry for entry in document["encodings"] if entry["name"] == "conv.weight").update(change)
    assert said in refusal_of(document, tmp_path)


def test_multiples_beyond_their_bits_are_refused(grouped, tmp_path):
    document = encodings_json(grouped, "1.0.0")
    entry = next(entry for entry in document["param_encodings"] if entry["name"] == "conv.weight")
    entry["per_block_int_scale"][0] = 17
    assert "goes beyond 2**4" in refusal_of(document, tmp_path)
