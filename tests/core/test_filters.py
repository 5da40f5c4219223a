"""What HTTPRoute filters make of fields, paths and targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.fields import Fields, make_field
from nodeagent.core.filters import (
    NO_FILTERS,
    Changes,
    Filters,
    HeaderChange,
    PathChange,
    Redirect,
    Rewrite,
    changed_fields,
    changed_path,
    changes_of,
    described,
    header_change,
    redirect_location,
    rewritten_target,
)
from nodeagent.core.matching import path_matches
from nodeagent.core.model import PathKind
from nodeagent.core.paths import normalize
from nodeagent.core.request_plan import plan_request
from nodeagent.core.response_plan import filtered_response, plan_response
from nodeagent.regex import compile_regex
from tests.core import strategies as some

SPECIAL_NAMES = ("Host", "Content-Length", "transfer-encoding", "Connection", "TE", "Upgrade", "Keep-Alive", "Expect")


def fields(*pairs: tuple[str, str]) -> Fields:
    return [make_field(name.encode(), value.encode()) for name, value in pairs]


def lines(found: Fields) -> list[str]:
    return [field[4].decode() for field in found]


# ---- headers ----


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (header_change(setting=[("x-a", "9")]), ["Host: h", "X-B: 3", "x-a: 9"]),
        (header_change(adding=[("X-A", "9")]), ["Host: h", "X-A: 1", "x-a: 2", "X-B: 3", "X-A: 9"]),
        (header_change(removing=["X-a"]), ["Host: h", "X-B: 3"]),
        (header_change(removing=["absent"]), ["Host: h", "X-A: 1", "x-a: 2", "X-B: 3"]),
        (header_change([("x-b", "4")], [("x-b", "5")], ["x-b"]), ["Host: h", "X-A: 1", "x-a: 2", "x-b: 4", "x-b: 5"]),
    ],
)
def test_set_replaces_every_value_add_appends_one_remove_drops_all(change: HeaderChange, expected: list[str]) -> None:
    given_fields = fields(("Host", "h"), ("X-A", "1"), ("x-a", "2"), ("X-B", "3"))
    before = list(given_fields)
    assert lines(changed_fields(given_fields, change)) == expected
    assert given_fields == before, "the fields may be those of other requests too"


def test_values_that_are_not_ascii_are_sent_as_utf_8() -> None:
    (field,) = changed_fields([], header_change(setting=[("x", "caf\u00e9")]))
    assert field[4] == b"x: caf\xc3\xa9"


names = st.sampled_from((*SPECIAL_NAMES, "x-a", "X-A", "x-b", "Via"))
pairs = st.lists(st.tuples(names, st.sampled_from(("1", "2"))), max_size=5)


@given(pairs, pairs, pairs, st.lists(names, max_size=4))
def test_framing_fields_are_untouched_whatever_a_change_says(
    before: list[tuple[str, str]],
    setting: list[tuple[str, str]],
    adding: list[tuple[str, str]],
    removing: list[str],
) -> None:
    special = {name.lower() for name in SPECIAL_NAMES}
    old = fields(*before)
    new = changed_fields(old, header_change(setting, adding, removing))
    assert [field for field in new if field[2] in special] == [field for field in old if field[2] in special]


@given(pairs, some.header_changes, some.header_changes)
def test_two_changes_as_one_are_the_first_and_then_the_second(
    before: list[tuple[str, str]], first: HeaderChange, second: HeaderChange
) -> None:
    one_by_one = changed_fields(changed_fields(fields(*before), first), second)
    assert changed_fields(fields(*before), first.then(second)) == one_by_one


def test_filters_of_the_backend_come_after_those_of_the_rule() -> None:
    rule = Filters(request=header_change([("x", "rule")]), response=header_change(removing=["server"]))
    backend = Filters(request=header_change([("X", "backend")]))
    changes = changes_of(rule, backend)
    assert changes is not None
    assert changes.request is not None
    assert lines(changed_fields([], changes.request)) == ["X: backend"]
    assert changes.response == rule.response
    assert changes_of(NO_FILTERS) is None


def test_of_two_rewrites_the_backends_counts_where_it_speaks() -> None:
    host, path, other = Rewrite("a"), Rewrite(path=PathChange("/a")), Rewrite("b", PathChange("/b", "/x"))
    for rule, backend, expected in (
        (host, path, Rewrite("a", PathChange("/a"))),
        (path, host, Rewrite("a", PathChange("/a"))),
        (other, path, Rewrite("b", PathChange("/a"))),
        (host, other, other),
        (None, other, other),
        (other, None, other),
    ):
        assert changes_of(Filters(rewrite=rule), Filters(rewrite=backend)) == Changes(rewrite=expected)


# ---- whole heads ----


def test_a_changed_request_leaves_its_plan_as_it_was() -> None:
    plan = plan_request("POST", b"/a/b?q", 1, fields(("Host", "old"), ("X", "1"), ("Content-Length", "3")), b"")
    usual = plan.head()
    changes = Changes(header_change([("X", "2")]), None, Rewrite("new", PathChange("/z", "/a")))
    assert plan.changed_head(changes) == b"POST /z/b?q HTTP/1.1\r\nHost: new\r\nContent-Length: 3\r\nX: 2\r\n\r\n"
    assert plan.head() == usual


def test_an_upstream_cannot_drop_what_a_filter_adds_by_naming_it_in_connection() -> None:
    request = plan_request("GET", b"/", 1, fields(("Host", "h")), b"")
    received = fields(("Connection", "X-Safe, close"), ("X-Safe", "no"), ("Content-Length", "0"))
    change = header_change(adding=[("X-Safe", "yes")])
    plan = plan_response(200, b"OK", 1, filtered_response(received, change), request, client_keep_alive=True)
    assert plan.head == b"HTTP/1.1 200 OK\r\nX-Safe: yes\r\nContent-Length: 0\r\n\r\n"
    assert not plan.upstream_reusable, "close was not forgotten"


# ---- paths ----


@pytest.mark.parametrize(
    ("path", "prefix", "value", "expected"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),  # these rows are Gateway API's own table
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/foo", "/", "", "/foo"),
        ("/a/b/c/d", "/a/b", "/z", "/z/c/d"),
        ("/a%3Ab/c", "/a:b", "/z", "/z/c"),  # matched although spelt otherwise
        ("/foo/bar", None, "/all", "/all"),
        ("*", "/", "/xyz", "*"),
        ("*", None, "/xyz", "*"),
    ],
)
def test_a_path_is_replaced_by_whole_segments(path: str, prefix: str | None, value: str, expected: str) -> None:
    change = PathChange(value, prefix)
    assert changed_path(path, change) == expected
    assert rewritten_target(f"{path}?a=/foo&b", change) == f"{expected}?a=/foo&b"


segments = st.lists(st.sampled_from(("a", "b", "foo", "x:y", "%20")), max_size=4)


@given(segments, segments, segments, st.booleans())
def test_what_follows_the_prefix_is_kept_segment_by_segment(
    prefix: list[str], rest: list[str], value: list[str], slash: bool
) -> None:
    path = "/" + "/".join(prefix + rest) + ("/" if slash and prefix + rest else "")
    rule_path = "/" + "/".join(prefix)
    assert path_matches(PathKind.PREFIX, rule_path, path, compile_regex)
    changed = changed_path(path, PathChange("/" + "/".join(value), rule_path))
    assert [part for part in changed.split("/") if part] == value + rest
    assert normalize(changed) == changed, "a normal form stays one"


# ---- redirects ----


@pytest.mark.parametrize(
    ("redirect", "dialled", "expected"),
    [
        (Redirect(hostname="b"), 80, "http://b/p?q"),
        (Redirect(hostname="b"), 8080, "http://b:8080/p?q"),  # no scheme: the port that was dialled
        (Redirect(scheme="http"), 8080, "http://h/p?q"),  # a scheme: its own port
        (Redirect(scheme="https"), 8080, "https://h/p?q"),
        (Redirect(scheme="https", port=443), 80, "https://h/p?q"),
        (Redirect(scheme="https", port=80), 80, "https://h:80/p?q"),
        (Redirect(port=80), 8080, "http://h/p?q"),
        (Redirect(port=443), 80, "http://h:443/p?q"),
        (Redirect(port=8443), 80, "http://h:8443/p?q"),
        (Redirect(path=PathChange("/z")), 80, "http://h/z?q"),
        (Redirect(path=PathChange("/z", "/p")), 80, "http://h/z?q"),
    ],
)
def test_a_location_says_the_port_only_where_its_scheme_does_not(
    redirect: Redirect, dialled: int, expected: str
) -> None:
    assert redirect_location(redirect, "h", dialled, "/p?q") == expected


def test_the_location_of_the_whole_server_has_no_path() -> None:
    assert redirect_location(Redirect(scheme="https"), "[::1]", 80, "*") == "https://[::1]"


# ---- for people ----


def test_filters_are_described_by_what_they_do() -> None:
    request = header_change([("X-Set", "1")], [("x-set", "2"), ("X-Add", "3")], ["x-gone"])
    rewriting = Filters(request, header_change(removing=["server"]), None, Rewrite("inner", PathChange("", "/a")))
    assert described(rewriting) == [
        "remove request header x-gone",
        "set request header X-Set: 1",
        "add request header x-set: 2",
        "add request header X-Add: 3",
        "remove response header server",
        "rewrite host to inner",
        "rewrite path prefix /a with /",
    ]
    redirecting = Filters(redirect=Redirect(308, "https", "b", 8443, PathChange("/z")))
    assert described(redirecting) == ["redirect with 308 scheme https host b port 8443 and replace path with /z"]
    assert described(NO_FILTERS) == []
