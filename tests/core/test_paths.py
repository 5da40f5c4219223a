"""One normal form per path: what is judged is what is forwarded."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.paths import PathError, normalize, respell, spellings

SAME = ("/", "/a", "/a/", "/a/b", "/...", "/a.b", "/.a", "*", "/a;b", "/a%20b", "/a%3Ab")
CHANGED = {
    "//a": "/a",
    "/a//b///c": "/a/b/c",
    "/a/../b": "/b",
    "/a/..": "/",
    "/..": "/",
    "/../../a": "/a",
    "/./a": "/a",
    "/a/.": "/a/",
    "/a/b/..": "/a/",
    "/%61dmin": "/admin",
    "/%2e%2e/admin": "/admin",
    "/%2E/admin": "/admin",
    "/a/%2e%2e%2e": "/a/...",
    "/a%3ab": "/a%3Ab",
    "/%7euser": "/~user",
    "/a|b": "/a%7Cb",
    "/a%252e": "/a%252e",
    "///..//": "/",
}
REFUSED = {
    "": "does not start",
    "a": "does not start",
    "/%2fadmin": "escaped slash",
    "/%2Fadmin": "escaped slash",
    "/a%5cb": "escaped backslash",
    "/a%5Cb": "escaped backslash",
    "/a%00": "escaped NUL",
    "/a\\b": "backslash",
    "/%": "broken percent escape",
    "/%4": "broken percent escape",
    "/%zz": "broken percent escape",
    "/\xe9": "non-ASCII",
    "/a\tb": "control",
    "/a\x7f": "control",
    "/a b": "space",
    "/a?b": "query or fragment",
    "/a#b": "query or fragment",
    "/a/..;/b": "dot segment with parameters",
    "/a/.;x/b": "dot segment with parameters",
    "/a/%2e%2e%3b/b": "dot segment with parameters",
}
nearly_paths = st.lists(
    st.sampled_from(
        ["/", "//", ".", "..", "a", "admin", "%2e", "%2E", "%41", "%25", "%3b", ";", "%20", "|", ":", "%7E"]
    ),
    max_size=12,
).map(lambda parts: "/" + "".join(parts))


@pytest.mark.parametrize("path", SAME)
def test_a_normal_path_is_left_alone(path: str) -> None:
    assert normalize(path) == path


@pytest.mark.parametrize(("path", "normal"), CHANGED.items())
def test_a_path_is_brought_to_its_normal_form(path: str, normal: str) -> None:
    assert normalize(path) == normal


@pytest.mark.parametrize(("path", "reason"), REFUSED.items())
def test_a_path_with_two_readings_is_refused_with_a_reason(path: str, reason: str) -> None:
    with pytest.raises(PathError) as caught:
        normalize(path)
    assert reason in caught.value.reason


@given(nearly_paths)
def test_the_normal_form_is_a_fixed_point_without_dots_or_empty_segments(path: str) -> None:
    try:
        normal = normalize(path)
    except PathError:
        return
    assert normalize(normal) == normal
    assert normal.startswith("/")
    assert "//" not in normal
    assert not {".", ".."} & set(normal.split("/"))
    assert re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*", normal)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=30))
def test_any_text_is_normalized_or_refused(text: str) -> None:
    try:
        normal = normalize(text)
    except PathError:
        return
    assert normalize(normal) == normal


@given(nearly_paths)
def test_spellings_are_what_servers_may_read(path: str) -> None:
    try:
        normal = normalize(path)
    except PathError:
        return
    assert spellings(normal)[0] == normal
    assert respell(normal) in spellings(normal)
    assert unquote(respell(normal)) == unquote(normal)


def test_respelling_decodes_what_most_servers_take_for_the_same() -> None:
    assert respell("/a%3Ab%2B%20") == "/a:b+%20"
    assert spellings("/a%3Bx/b") == ("/a%3Bx/b", "/a;x/b", "/a/b")
