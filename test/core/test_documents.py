"""JSON and YAML: what other readers let pass in silence is one sentence that names the file."""

import json
from functools import partial

import pytest
import yaml

from maskact_ros.core.documents import DocumentError, read_json, read_yaml, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import PathError

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]" for before, key in zip("abcdefghi", "bcdefghij", strict=True)]
)
# 13 mappings of which each holds the one before eight times over: 8**12 entries, from about 600 bytes.
MERGES = "\n".join(
    ["a: &a {p: 1, q: 2}"]
    + [
        f"{key}: &{key} {{<<: [{', '.join([f'*{before}'] * 8)}]}}"
        for before, key in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    ]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"dropout": 0.1, "dropout": 0.9}', "'dropout' is given 2 times; allowed: once"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is given 2 times"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' * 450 + "1" + "}" * 450, "nested in 50 levels"),
        ('{"a": [' + "0," * 100_000 + "0]}", "allowed: 100000 values"),
        ('{"name": "\\ud800"}', "not JSON"),
        ('{"\\ud800": 1}', "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": ' + "9" * 400 + "}", "a number has more than 64 bits"),
        ('{"' + "n" * 200_000 + '": 1}', "a text has 200000 letters; allowed: 100000"),
    ],
)
def test_json_that_is_not_sound_is_one_sentence(tmp_path, text, words):
    refused(read_json, tmp_path / "file.json", text, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("lower: 1\nupper: 2\nlower: 3", "'lower' is given 2 times; allowed: once"),
        ("joints: [{lower: 1, lower: 2}]", "'lower' is given 2 times"),
        ("[" * 1000, "not YAML"),
        ("&a [*a]", "nested in 50 levels"),
        (BOMB, "allowed: 100000 values"),
        ('name: "\\ud800"', "not YAML"),
        ("width: 0x" + "f" * 5000, "a number has more than 64 bits"),
        ("width: " + "1:" * 40_000 + "1", "a number has more than 64 bits"),
        ("name: " + "x" * 200_000, "a text has 200000 letters; allowed: 100000"),
        ("x" * 200_000 + ": 1", "letters; allowed: 100000"),
        (MERGES, "merge keys (<<) add too much; allowed: 100000 entries"),
        ("a: &a {b: &b {<<: *a, x: 1}, <<: *b}", "not YAML"),
        ('width: !!int ""', "not YAML"),
        ("width: !!bool x", "not YAML"),
        ("width: !!timestamp x", "not YAML"),
        ("[a]: b", "not YAML"),
    ],
)
def test_yaml_that_is_not_sound_is_one_sentence(tmp_path, text, words):
    refused(read_yaml, tmp_path / "file.yaml", text, words)


def refused(read, path, text, words):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert words in sentence
    assert "\n" not in sentence
    assert len(sentence) < 500


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_file_that_is_absent_or_binary_is_one_sentence(tmp_path, read):
    with pytest.raises(MaskACTError, match=r"absent: cannot be read \(No such file or directory\)"):
        read(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MaskACTError, match=r"binary: not (JSON|YAML)"):
        read(tmp_path / "binary")


@pytest.mark.parametrize(
    ("read", "most"), [(read_json, 2**23), (partial(read_json, any_size=True), 2**25), (read_yaml, 2**19)]
)
def test_a_document_that_takes_too_long_to_read_is_not_begun(tmp_path, read, most):
    (tmp_path / "file").write_bytes(b" " * (most + 1))
    with pytest.raises(PathError, match=f"file: has {most + 1} bytes; allowed: at most {most}"):
        read(tmp_path / "file")


def test_a_document_of_a_million_empty_lists_is_not_begun(tmp_path):
    (tmp_path / "file").write_text('{"a": [' + "[]," * 1_000_000 + "0]}")
    with pytest.raises(DocumentError, match=r"file: has 1000002 lists and objects; allowed: 1000000"):
        read_json(tmp_path / "file", any_size=True)


def test_sound_documents_are_read_as_by_any_reader(tmp_path):
    values = {"a": [1, 2.5, None, True, "ü"], "b": {"c": {"a": "again"}}}
    (tmp_path / "file").write_text(json.dumps(values))
    assert read_json(tmp_path / "file") == values
    (tmp_path / "file").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    assert read_yaml(tmp_path / "file") == values


def test_aliases_and_merged_keys_which_may_be_overridden_stay_welcome(tmp_path):
    (tmp_path / "file").write_text("slow: &slow {v: 1, a: 2}\nfast: &fast {<<: *slow, v: 9}\njoint: {<<: *fast, a: 3}")
    assert read_yaml(tmp_path / "file")["joint"] == {"v": 9, "a": 3}


def test_a_long_text_is_shortened_and_a_short_one_is_not():
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 197 + "..."
