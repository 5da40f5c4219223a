"""Filters that cannot be resolved, and values of a later release: one rule answers 500, the others are in force."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.config.conditions import ACCEPTED, PARTIALLY_INVALID, RESOLVED_REFS, Conditions
from nodeagent.core.model import Decision
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, backend

BASE = [*some.callers(), *some.service("cart"), *some.service("other", "198.19.0.9", "198.18.0.19")]
SERVED: Document = {"backendRefs": [backend("cart", 1)]}
EXTENSION: Document = {
    "type": "ExtensionRef",
    "extensionRef": {"group": "ext.example", "kind": "Wasm", "name": "w"},
}


def route(*rules: Document) -> Document:
    return manifests.http_route("shop", "r", "cart", list(rules))


def ruled(at: str, **more: Any) -> Document:
    return {"matches": [{"path": {"type": "PathPrefix", "value": at}}], **SERVED, **more}


def ask(document: Document, path: str = "/", rand: float = 0.0, **head: Any) -> Decision:
    return some.ask(some.snapshot(*BASE, document), "shop/web", request=some.head(path, **head), rand=rand)


def conditions(document: Document) -> Conditions:
    return some.compiled(*BASE, document)[1]


def types(document: Document) -> dict[str, str]:
    return {one.type: one.status for one in conditions(document) if one.object == "shop/r"}


def test_requests_of_a_filter_that_cannot_be_resolved_are_answered_500_and_it_is_not_skipped() -> None:
    one = route(ruled("/x", filters=[EXTENSION]), ruled("/y"))
    decision = ask(one, "/x/1")
    assert (decision.status, decision.reason, decision.rule) == (500, "filter-not-found", "0")
    assert "filters[0].extensionRef" in decision.detail
    assert ask(one, "/y").status == 0
    assert ask(one, "/z").status == 404
    unresolved = some.condition(conditions(one), RESOLVED_REFS, "shop/r")
    assert (unresolved.status, unresolved.reason) == ("False", "InvalidKind")
    assert unresolved.field == "spec.rules[0].filters[0].extensionRef"
    assert "'Wasm' of group 'ext.example'" in unresolved.message
    assert types(one)[ACCEPTED] == "True"


def test_an_extension_may_be_named_twice_and_needs_its_reference() -> None:
    assert ask(route({**SERVED, "filters": [EXTENSION, EXTENSION]})).reason == "filter-not-found"
    found = some.load({"r.yaml": some.text(route({**SERVED, "filters": [{"type": "ExtensionRef"}]}))})[1]
    assert [problem.field for problem in found.problems] == ["spec.rules[0].filters[0].extensionRef"]


def test_an_extension_of_a_backend_costs_that_backends_share_only() -> None:
    refs = [{**backend("cart", 1), "filters": [EXTENSION]}, backend("other", 3)]
    one = route({"backendRefs": refs})
    assert some.statuses(some.snapshot(*BASE, one), "shop/web") == {0: 75, 500: 25}
    assert ask(one).reason == "filter-not-found"
    unresolved = some.condition(conditions(one), RESOLVED_REFS, "shop/r")
    assert unresolved.field == "spec.rules[0].backendRefs[0].filters[0].extensionRef"
    assert unresolved.message.endswith("its share is answered 500")


LATER: list[tuple[Document, str, str]] = [
    ({"filters": [{"type": "Magic\n", "magic": {}}]}, "filters[0].type", "filter-not-found"),
    ({"filters": [{"type": "ExternalAuth", "externalAuth": {}}]}, "filters[0].type", "filter-not-found"),
    ({"filters": [{"type": "x" * 5000}]}, "filters[0].type", "filter-not-found"),
    (
        {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "Magic", "replaceFullPath": "/a"}}}]},
        "filters[0].urlRewrite.path.type",
        "unsupported-value",
    ),
    (
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "h4"}}], "backendRefs": []},
        "filters[0].requestRedirect.scheme",
        "unsupported-value",
    ),
    (
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 309}}], "backendRefs": []},
        "filters[0].requestRedirect.statusCode",
        "unsupported-value",
    ),
]


@pytest.mark.parametrize(("change", "field", "reason"), LATER)
def test_an_unknown_value_in_a_filter_rejects_its_rule_and_no_other(change: Document, field: str, reason: str) -> None:
    one = route(ruled("/x", **change), ruled("/y"))
    assert (ask(one, "/x").status, ask(one, "/x").reason) == (500, reason)
    assert ask(one, "/y").status == 0
    partly = some.condition(conditions(one), PARTIALLY_INVALID, "shop/r")
    assert (partly.status, partly.reason, partly.field) == ("True", "UnsupportedValue", f"spec.rules[0].{field}")
    assert partly.message.startswith("Dropped Rule 0: unsupported value")
    assert len(partly.message) < 400
    assert types(one)[ACCEPTED] == "True"


VAGUE: list[tuple[Document, str]] = [
    ({"path": {"type": "Glob", "value": "a*"}}, "path.type"),
    ({"headers": [{"type": "Glob", "name": "x", "value": "1"}]}, "headers[0].type"),
    ({"queryParams": [{"type": "Glob", "name": "x", "value": "1"}]}, "queryParams[0].type"),
]


@pytest.mark.parametrize(("match", "field"), VAGUE)
def test_a_match_that_cannot_be_judged_takes_what_no_other_rule_takes(match: Document, field: str) -> None:
    """Anything may be meant for it; what another rule is for stays with that one."""
    one = route({**SERVED, "matches": [match]}, ruled("/y"))
    assert (ask(one, "/x").status, ask(one, "/x").reason) == (500, "unsupported-value")
    assert ask(one, "/y").status == 0
    partly = some.condition(conditions(one), PARTIALLY_INVALID, "shop/r")
    assert partly.field == f"spec.rules[0].matches[0].{field}"
    assert ask(route({**SERVED, "matches": [match]}, SERVED), "/x").status == 0


def test_what_is_known_of_such_a_match_still_counts() -> None:
    match = {"path": {"type": "Glob", "value": "*"}, "method": "GET", "headers": [{"name": "x", "value": "1"}]}
    one = route({**SERVED, "matches": [match]})
    assert ask(one, "/x", headers={"x": "1"}).status == 500
    assert ask(one, "/x", headers={"x": "2"}).status == 404
    assert ask(one, "/x", method="PUT", headers={"x": "1"}).status == 404


def test_an_unknown_method_is_matched_literally() -> None:
    one = route({**SERVED, "matches": [{"method": "QUERY"}]}, SERVED)
    assert ask(one, method="QUERY").reason == "unsupported-value"
    assert ask(one).status == 0


def test_every_match_of_a_dropped_rule_is_answered_500() -> None:
    matches = [{"path": {"type": "Glob", "value": "*"}}, {"path": {"type": "Exact", "value": "/a"}}]
    assert ask(route({**SERVED, "matches": matches}, ruled("/")), "/a").status == 500


def test_a_route_of_which_nothing_is_left_is_not_accepted_and_answers_500_all_the_same() -> None:
    one = route({**SERVED, "filters": [{"type": "Magic"}]})
    accepted = some.condition(conditions(one), ACCEPTED, "shop/r")
    assert (accepted.status, accepted.reason, accepted.field) == (
        "False",
        "UnsupportedValue",
        "spec.rules[0].filters[0].type",
    )
    assert PARTIALLY_INVALID not in types(one)
    assert ask(one).status == 500


@pytest.mark.parametrize("kind", ["RequestRedirect", "Magic"])
def test_a_filter_that_a_backend_cannot_have_costs_its_share_only(kind: str) -> None:
    one_filter: Document = {"type": kind} | ({"requestRedirect": {}} if kind == "RequestRedirect" else {})
    one = route({"backendRefs": [{**backend("cart", 1), "filters": [one_filter]}, backend("other", 1)]})
    assert some.statuses(some.snapshot(*BASE, one), "shop/web") == {0: 50, 500: 50}
    partly = some.condition(conditions(one), PARTIALLY_INVALID, "shop/r")
    assert partly.field == "spec.rules[0].backendRefs[0].filters[0].type"
    assert types(one)[RESOLVED_REFS] == "True"


def test_policies_judge_a_request_before_a_broken_rule_answers_it() -> None:
    deny = some.policy("p", "DENY", [{"http": {"methods": ["GET"]}}])
    snap = some.snapshot(*BASE, route({**SERVED, "filters": [EXTENSION]}), deny)
    assert some.ask(snap, "shop/web").status == 403
    assert some.ask(snap, "shop/web", request=some.head(method="PUT")).status == 500
