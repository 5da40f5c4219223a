"""HTTPRoute filters in manifests: what is accepted, what it becomes, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nodeagent.core.filters import Changes, Filters, PathChange, Redirect, Rewrite, header_change
from nodeagent.core.model import Backend, Decision, Rule
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart")]
PREFIX: Document = {"path": {"type": "PathPrefix", "value": "/foo/"}}
TYPES = {
    "requestHeaderModifier": "RequestHeaderModifier",
    "responseHeaderModifier": "ResponseHeaderModifier",
    "requestRedirect": "RequestRedirect",
    "urlRewrite": "URLRewrite",
}


def one(name: str, value: object) -> Document:
    """A filter by the name of its field."""
    return {"type": TYPES[name], name: value}


def route(
    filters: Sequence[object], matches: Sequence[Document] = (PREFIX,), on_backend: Sequence[object] = (), **rule: Any
) -> Document:
    redirects = any(isinstance(item, dict) and "requestRedirect" in item for item in filters)
    backends = [] if redirects else [{"name": "cart", "port": 80, "filters": list(on_backend)}]
    content = {"filters": list(filters), "backendRefs": backends, **rule}
    if matches:
        content["matches"] = list(matches)
    return manifests.http_route("shop", "r", "cart", [content])


def compiled(document: Document) -> Rule:
    (rule,) = some.snapshot(*BASE, document).destinations[some.VIP, 80].producer_rules
    return rule


def problems(document: Document) -> list[tuple[str, str]]:
    """(field below the rule, message) of everything wrong with a route, which then is not in force at all."""
    found = some.load({"base.yaml": some.text(*BASE), "r.yaml": some.text(document)})[1]
    assert found.routes == {}
    assert found.problems
    return [(problem.field.removeprefix("spec.rules[0]").lstrip("."), problem.message) for problem in found.problems]


def ask(document: Document, path: str) -> Decision:
    return some.ask(some.snapshot(*BASE, document), "shop/web", request=some.head(path))


# ---- what is accepted ----


def test_header_modifiers_are_read_at_both_levels() -> None:
    modifier = {"set": [{"name": "X-A", "value": "1"}], "add": [{"name": "x-b", "value": "\u00e9"}], "remove": ["x-c"]}
    change = header_change([("X-A", "1")], [("x-b", "\u00e9")], ["x-c"])
    both = [one("requestHeaderModifier", modifier), one("responseHeaderModifier", {"remove": ["Server"]})]
    rule = compiled(route(both, on_backend=both[:1]))
    assert rule.filters == Filters(change, header_change(removing=["server"]))
    backend: Backend = rule.backends[0]
    assert backend.filters == Filters(change)


BACKEND_REWRITES = [
    ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}}, Rewrite(path=PathChange("/z", "/foo"))),
    ({"hostname": "b.example"}, Rewrite("b.example")),
]


@pytest.mark.parametrize(("rewrite", "expected"), BACKEND_REWRITES)
def test_a_backend_may_rewrite_urls(rewrite: Document, expected: Rewrite) -> None:
    rule = compiled(route([], on_backend=[one("urlRewrite", rewrite)]))
    assert rule.backends[0].filters.rewrite == expected
    changes = ask(route([], on_backend=[one("urlRewrite", rewrite)]), "/foo").changes
    assert changes == Changes(rewrite=expected)


def test_a_prefix_that_a_backend_replaces_is_that_of_the_one_match() -> None:
    path = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}}
    (found,) = problems(route([], [PREFIX, PREFIX | {"method": "GET"}], on_backend=[one("urlRewrite", path)]))
    assert found[0] == "backendRefs[0].filters[0].urlRewrite.path.type"
    assert "exactly one match" in found[1]


def test_paths_are_judged_in_normal_form_where_a_backend_changes_them() -> None:
    path = {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/z"}}
    snap = some.snapshot(*BASE, route([], (), on_backend=[one("urlRewrite", path)]))
    assert snap.destinations[some.VIP, 80].judges_paths


@pytest.mark.parametrize("kind", ["set", "add"])
def test_of_header_names_that_differ_in_case_only_the_first_counts(kind: str) -> None:
    items = [{"name": "X-a", "value": "1"}, {"name": "x-A", "value": "2"}, {"name": "y", "value": "3"}]
    pairs = [("X-a", "1"), ("y", "3")]
    wanted = header_change(pairs) if kind == "set" else header_change(adding=pairs)
    assert compiled(route([one("requestHeaderModifier", {kind: items})])).filters.request == wanted


def test_a_name_may_be_removed_twice() -> None:
    rule = compiled(route([one("requestHeaderModifier", {"remove": ["x", "X"]})]))
    assert rule.filters.request == header_change(removing=["x"])


def test_a_decision_carries_the_changes_of_rule_and_backend() -> None:
    request = one("requestHeaderModifier", {"set": [{"name": "x", "value": "1"}]})
    after = one("requestHeaderModifier", {"set": [{"name": "X", "value": "2"}]})
    changes = ask(route([request], on_backend=[after]), "/foo").changes
    assert changes == Changes(header_change([("X", "2")]))


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({}, Redirect()),
        ({"scheme": "https", "statusCode": 308}, Redirect(308, "https")),
        ({"hostname": "a.example", "port": 8443}, Redirect(302, "", "a.example", 8443)),
        ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/z"}}, Redirect(path=PathChange("/z"))),
        (
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}, "statusCode": 301},
            Redirect(301, path=PathChange("", "/foo")),
        ),
    ],
)
def test_redirects_are_read(redirect: Document, expected: Redirect) -> None:
    assert compiled(route([one("requestRedirect", redirect)])).filters.redirect == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_decided_with_its_location_and_needs_no_backend(status: int) -> None:
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/xyz"}
    decision = ask(route([one("requestRedirect", {"statusCode": status, "path": path})]), "/foo/bar")
    assert (decision.status, decision.location, decision.endpoint) == (status, "http://cart/xyz/bar", None)


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        ({}, None),
        ({"hostname": "a.example"}, Rewrite("a.example")),
        ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a%7eb"}}, Rewrite(path=PathChange("/a~b"))),
        ({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}}, Rewrite(path=PathChange("/z", "/foo"))),
    ],
)
def test_url_rewrites_are_read(rewrite: Document, expected: Rewrite | None) -> None:
    assert compiled(route([one("urlRewrite", rewrite)])).filters.rewrite == expected


def test_a_prefix_may_be_replaced_where_the_match_is_left_to_its_default() -> None:
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}
    for matches in ((), ({"method": "GET"},), ({"path": {"value": "/"}},)):
        rule = compiled(route([one("urlRewrite", {"path": path})], matches))
        assert rule.filters.rewrite == Rewrite(path=PathChange("/z", "/"))


def test_paths_are_judged_in_normal_form_where_a_filter_changes_them() -> None:
    """Else a dot segment would climb out of the path that was put before it."""
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}
    for rewrite, expected in (({"path": path}, True), ({"hostname": "a"}, False)):
        snap = some.snapshot(*BASE, route([one("urlRewrite", rewrite)], ()))
        assert snap.destinations[some.VIP, 80].judges_paths is expected


# ---- what is refused ----


def modifier(**lists: object) -> list[Document]:
    return [one("requestHeaderModifier", lists)]


AT = "filters[0].requestHeaderModifier"


@pytest.mark.parametrize(
    ("filters", "field", "words"),
    [
        (modifier(set=[{"name": "Host", "value": "a"}]), f"{AT}.set[0].name", "URLRewrite filter with hostname"),
        (modifier(add=[{"name": "content-length", "value": "1"}]), f"{AT}.add[0].name", "framing"),
        (modifier(set=[{"name": "Transfer-Encoding", "value": "x"}]), f"{AT}.set[0].name", "framing"),
        (modifier(remove=["x", "Connection"]), f"{AT}.remove[1]", "one connection"),
        (modifier(remove=["upgrade"]), f"{AT}.remove[0]", "one connection"),
        (modifier(remove=["a b"]), f"{AT}.remove[0]", "header name"),
        (modifier(set=[{"name": "x:", "value": "1"}]), f"{AT}.set[0].name", "header name"),
        (modifier(set=[{"name": "x", "value": "1\r\ny: 2"}]), f"{AT}.set[0].value", "control character"),
        (modifier(set=[{"name": "x", "value": " 1"}]), f"{AT}.set[0].value", "space"),
        (modifier(set=[{"name": "x", "value": ""}]), f"{AT}.set[0].value", "at least 1"),
        (modifier(set=[{"name": "x", "value": "1" * 4097}]), f"{AT}.set[0].value", "at most 4096"),
        (modifier(set=[{"name": "x"}]), f"{AT}.set[0].value", "required"),
        (modifier(remove=[f"x{n}" for n in range(17)]), f"{AT}.remove", "at most 16"),
        (modifier(add=[{"name": "x", "value": "1"}, {"name": "x", "value": "2"}]), f"{AT}.add[1]", "duplicate"),
        (modifier(replace=["x"]), f"{AT}.replace", "unknown field"),
        (modifier() + modifier(), "filters[1].type", "cannot be repeated"),
        ([{"type": "URLRewrite"}], "filters[0].urlRewrite", "required value is missing"),
        ([{**one("urlRewrite", {}), "requestRedirect": {}}], "filters[0].requestRedirect", "must not be given"),
        ([one("requestRedirect", {}), one("urlRewrite", {})], "filters", "only one of them"),
        ([one("requestRedirect", {"statusCode": "302"})], "filters[0].requestRedirect.statusCode", "an integer"),
        ([one("requestRedirect", {"port": 0})], "filters[0].requestRedirect.port", "too small"),
        ([one("requestRedirect", {"hostname": "*.a"})], "filters[0].requestRedirect.hostname", "no wildcard"),
        ([one("urlRewrite", {"hostname": "a:80"})], "filters[0].urlRewrite.hostname", "no port"),
        ([one("urlRewrite", {"hostname": ""})], "filters[0].urlRewrite.hostname", "at least 1"),
        ([one("urlRewrite", {"path": {"replaceFullPath": "/"}})], "filters[0].urlRewrite.path.type", "required"),
    ],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused_at_its_field(filters: list[object], field: str, words: str) -> None:
    found = problems(route(filters))
    assert [message for at, message in found if at == field and words in message], found


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ({"type": "ReplaceFullPath"}, "replaceFullPath", "required"),
        ({"type": "ReplaceFullPath", "replaceFullPath": ""}, "replaceFullPath", "must start with a slash"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/a?b"}, "replaceFullPath", "characters of a URI path"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/a/../b"}, "replaceFullPath", "must not contain '/../'"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/%zz"}, "replaceFullPath", "broken percent escape"),
        ({"type": "ReplaceFullPath", "replaceFullPath": "/" + "a" * 1024}, "replaceFullPath", "at most 1024"),
        ({"type": "ReplacePrefixMatch", "replacePrefixMatch": "a"}, "replacePrefixMatch", "must start with a slash"),
        ({"type": "ReplacePrefixMatch", "replaceFullPath": "/a"}, "replaceFullPath", "must not be given"),
    ],
)
@pytest.mark.parametrize("name", ["urlRewrite", "requestRedirect"])
def test_a_path_that_cannot_be_one_is_refused(name: str, path: Document, field: str, words: str) -> None:
    found = problems(route([one(name, {"path": path})]))
    assert [message for at, message in found if at == f"filters[0].{name}.path.{field}" and words in message], found


@pytest.mark.parametrize("name", ["urlRewrite", "requestRedirect"])
@pytest.mark.parametrize(
    "matches", [[PREFIX, PREFIX | {"method": "GET"}], [{"path": {"type": "Exact", "value": "/foo"}}]]
)
def test_a_prefix_is_replaced_only_where_one_prefix_matched(name: str, matches: list[Document]) -> None:
    path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}
    (found,) = problems(route([one(name, {"path": path})], matches))
    assert found[0] == f"filters[0].{name}.path.type"
    assert "exactly one match" in found[1]


def test_a_redirect_forwards_nothing() -> None:
    (found,) = problems(route([one("requestRedirect", {})], backendRefs=[{"name": "cart", "port": 80}]))
    assert found[0] == "backendRefs"


@pytest.mark.parametrize("broken", ["RequestRedirect", 7, {}, {"type": None}, {"type": 7}, {"type": ["URLRewrite"]}])
def test_what_is_no_filter_is_refused(broken: object) -> None:
    assert problems(route([broken]))
