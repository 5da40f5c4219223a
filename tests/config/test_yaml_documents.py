"""YAML as strictly as kubectl reads it: documents apart, faults at their place, no bytes that crash or exhaust it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.yaml_documents import MAX_FILE, DocumentError, Lines, dump, read_documents

# The other line breaks of Unicode are left out: PyYAML writes them so that it reads blanks.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-999, 999).map(lambda n: n / 8) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def one(text: str) -> Any:
    (document,) = read_documents(text.encode())
    assert document.error is None
    assert not document.faults
    return document.value


def fault(text: str) -> tuple[tuple[str | int, ...], str]:
    (document,) = read_documents(text.encode())
    (found,) = document.faults
    return found.path, found.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("0x10", 16),
        ("1.5", 1.5),
        ("~", None),
        ("'1'", "1"),
        ("no", False),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
        ("[&x {a: 1}, *x]", [{"a": 1}, {"a": 1}]),
        ("\ufeff{a: 1}", {"a": 1}),
    ],
)
def test_scalars_are_what_json_can_say(text: str, value: object) -> None:
    documents = read_documents(text.encode())
    assert [document.value for document in documents] == ([] if value is None else [value])


@given(plain)
def test_what_is_dumped_as_yaml_or_json_is_read_back(value: Any) -> None:
    for text in (dump({"a": value}), json.dumps({"a": value})):
        try:
            yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError:
            continue  # JSON escapes that YAML has no characters for
        assert one(text) == {"a": value}


@given(st.binary(max_size=200) | st.text("-:[]{}&*!|>'\"#%@,?\n\t ab01~<", max_size=80).map(str.encode))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        documents = read_documents(data)
    except DocumentError:  # with a reason for the whole file; anything else is a crash
        return
    lines = Lines(data)
    for document in documents:
        for found in document.faults:
            assert lines.of(document.index, found.path) >= 1


def test_documents_count_from_the_first_that_has_content() -> None:
    text = "# licence\n---\na: 1\n--- # second\nb: 2\n---\n\n--- {c: 3}\n"
    found = [(document.index, document.value) for document in read_documents(text.encode())]
    assert found == [(1, {"a": 1}), (2, {"b": 2}), (4, {"c": 3})]


def test_a_syntax_error_spoils_its_own_document_and_names_the_line_in_the_file() -> None:
    documents = read_documents(b"a: 1\n---\nb: [\n---\nc: 3\n")
    assert [document.value for document in documents] == [{"a": 1}, None, {"c": 3}]
    assert documents[1].error is not None
    assert documents[1].error.line in (3, 4)


def test_the_line_of_a_field_is_found_or_that_of_its_nearest_ancestor() -> None:
    lines = Lines(b"---\na: 1\n---\nspec:\n  rules:\n  - name: x\n  - name: y\n")
    assert lines.of(2, ("spec", "rules", 1, "name")) == 7
    assert lines.of(2, ("spec", "rules", 1, "missing", "deeper")) == 7
    assert lines.of(2, ("nothing",)) == 4


@pytest.mark.parametrize(
    ("text", "path", "word"),
    [
        ("{a: {b: 1, b: 2}}", ("a", "b"), "already set"),
        ("[{a: !secret x}]", (0, "a"), "tag"),
        ("{a: !!set {x}}", ("a",), "tag"),
        ("{a: !!binary aGk=}", ("a",), "tag"),
        ("{a: {<<: {b: 1}}}", ("a",), "merge"),
        ("{a: {[1]: 2}}", ("a",), "keys must be text"),
        ("{a: !!int ''}", ("a",), "cannot read"),
        ("{a: !!bool maybe}", ("a",), "cannot read"),
        ("{a: " + "9" * 5000 + "}", ("a",), "cannot read"),
    ],
)
def test_a_fault_has_its_place_and_the_rest_is_read(text: str, path: tuple[str | int, ...], word: str) -> None:
    found, message = fault(text)
    assert found == path
    assert word in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "text",
    ["&a [*a]", "a: &a {b: *a}", "[" * 100 + "]" * 100, "[" * 100_000, "- " * 100_000, "a: [" + "1," * 1_200_000 + "]"],
)
def test_what_would_exhaust_memory_or_stack_is_refused(text: str) -> None:
    (document,) = read_documents(text.encode())
    assert document.error is not None


def test_a_file_of_the_greatest_size_is_read_and_one_byte_more_is_not() -> None:
    head = b"a: 1\n#"
    assert read_documents(head + b"x" * (MAX_FILE - len(head)))[0].value == {"a": 1}
    with pytest.raises(DocumentError, match="split it"):
        read_documents(head + b"x" * (MAX_FILE - len(head) + 1))
