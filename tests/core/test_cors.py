"""CORS: which origins a filter allows, what a preflight is told, and what a response says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.cors import Cors, allows, is_preflight, parse_origin, preflight_fields, response_change
from nodeagent.core.decide import decide
from nodeagent.core.fields import make_field
from nodeagent.core.filters import Filters, Redirect, changed_fields, header_change
from nodeagent.core.model import (
    Backend,
    Decision,
    Destination,
    Endpoint,
    PathKind,
    Protocol,
    RequestHead,
    Rule,
    Workload,
)
from nodeagent.regex import compile_regex

SHOP = "https://shop.example"
WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))


def cors(*origins: str, **fields: Any) -> Cors:
    parsed = tuple(one for text in origins if (one := parse_origin(text)) is not None)
    return replace(Cors(parsed, "*" in origins), **fields)


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://shop.example", "https://shop.example", True),
        ("https://shop.example", "HTTPS://Shop.Example", True),
        ("https://shop.example", "https://shop.example:443", True),
        ("https://shop.example:443", "https://shop.example", True),
        ("http://shop.example", "http://shop.example:80", True),
        ("https://shop.example", "http://shop.example", False),
        ("https://shop.example", "https://shop.example:8443", False),
        ("https://shop.example", "https://a.shop.example", False),
        ("https://shop.example", "https://shop.example.evil", False),
        ("https://*.shop.example", "https://a.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", "https://shop.example", False),
        ("https://*.shop.example", "https://.shop.example", False),
        ("https://*.shop.example", "https://evilshop.example", False),
        ("https://*.shop.example", "https://a.shop.example.evil", False),
        ("https://*", "https://anything", True),
        ("https://*", "https://anything:8443", False),
        ("http://*:8080", "http://[::1]:8080", True),
        ("https://*", "null", False),
        ("*", "null", True),
        ("*", "https://shop.example", True),
        ("*", "", False),
        ("*", "https://\u00e9", False),
        ("https://*", "https://a/b", False),
        ("https://*", "https://user@a", False),
    ],
)
def test_an_origin_is_allowed_by_scheme_host_and_port(allowed: str, origin: str, expected: bool) -> None:
    assert allows(cors(allowed), origin) is expected


def test_without_origins_nobody_is_allowed() -> None:
    assert not allows(Cors(), SHOP)


@given(st.text(max_size=400))
def test_whatever_an_origin_is_it_is_judged(origin: str) -> None:
    for one in (cors("*", credentials=True), cors("https://*", "http://*.a")):
        if allows(one, origin):
            assert origin.isascii()
        response_change(one, origin)
        preflight_fields(one, (("origin", origin),))


def test_a_preflight_is_options_with_an_origin_and_a_method() -> None:
    asked = (("origin", SHOP), ("access-control-request-method", "PUT"))
    assert is_preflight("OPTIONS", asked)
    assert not is_preflight("GET", asked)
    assert not is_preflight("OPTIONS", asked[:1])
    assert not is_preflight("OPTIONS", asked[1:])


def preflight(one: Cors, origin: str = SHOP) -> dict[str, str]:
    asked = (
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-a, x-b"),
    )
    return {name.removeprefix("access-control-"): value for name, value in preflight_fields(one, asked)}


def test_a_preflight_is_told_what_is_configured() -> None:
    one = cors(SHOP, methods=("GET", "PUT"), headers=("x-a",), max_age=60, exposed=("x-e",))
    assert preflight(one) == {
        "allow-origin": SHOP,
        "vary": "Origin",
        "allow-methods": "GET, PUT",
        "allow-headers": "x-a",
        "max-age": "60",
    }
    assert preflight(cors(SHOP)) == {"allow-origin": SHOP, "vary": "Origin", "max-age": "5"}


def test_a_preflight_of_another_origin_is_told_nothing() -> None:
    assert preflight(cors(SHOP, methods=("*",), credentials=True), "https://evil.example") == {"vary": "Origin"}


def test_wildcards_stand_for_themselves_without_credentials() -> None:
    one = cors("*", methods=("*",), headers=("*",))
    assert preflight(one) == {"allow-origin": "*", "allow-methods": "*", "allow-headers": "*", "max-age": "5"}


def test_with_credentials_a_wildcard_says_what_was_asked_for() -> None:
    one = cors("*", methods=("*",), headers=("*",), credentials=True)
    assert preflight(one) == {
        "allow-origin": SHOP,
        "vary": "Origin",
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "x-a, x-b",
        "max-age": "5",
    }
    bare = preflight_fields(one, (("origin", SHOP), ("access-control-request-method", "PUT")))
    assert "access-control-allow-headers" not in dict(bare)


def test_several_origins_in_one_request_are_none() -> None:
    fields = preflight_fields(cors("*"), (("origin", SHOP), ("origin", SHOP)))
    assert fields == ()


def said(one: Cors, origin: str, *upstream: tuple[str, str]) -> list[tuple[str, str]]:
    """The fields of an upstream's response after the filter."""
    fields = [make_field(name.encode(), value.encode()) for name, value in upstream]
    return [(field[2], field[1].decode()) for field in changed_fields(fields, response_change(one, origin))]


def test_a_response_says_who_may_read_it_in_place_of_the_upstream() -> None:
    upstream = (("Access-Control-Allow-Origin", "https://other"), ("Vary", "Accept"), ("access-control-max-age", "9"))
    one = cors(SHOP, credentials=True, exposed=("x-a", "x-b"), methods=("PUT",))
    assert said(one, SHOP, *upstream) == [
        ("vary", "Accept"),
        ("access-control-allow-origin", SHOP),
        ("vary", "Origin"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-a, x-b"),
    ]


def test_a_response_to_another_origin_says_nothing_whatever_the_upstream_says() -> None:
    upstream = (("Access-Control-Allow-Origin", "*"), ("x", "1"))
    assert said(cors(SHOP), "https://evil.example", *upstream) == [("x", "1"), ("vary", "Origin")]


def test_one_answer_for_every_origin_depends_on_none() -> None:
    assert said(cors("*"), SHOP) == [("access-control-allow-origin", "*")]


def test_every_header_cannot_be_exposed_together_with_credentials() -> None:
    assert ("access-control-expose-headers", "*") in said(cors("*", exposed=("*",)), SHOP)
    assert "access-control-expose-headers" not in dict(said(cors("*", exposed=("*",), credentials=True), SHOP))


# ---- as a decision ----

ENDPOINTS = (Endpoint("10.0.0.9", 80),)
RULE = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), (Backend("shop/b:80", 1, ENDPOINTS),), cors=cors(SHOP))


def ask(rule: Rule, method: str = "GET", *headers: tuple[str, str]) -> Decision:
    frontend = Destination(
        "shop/a:80", "198.18.0.1", 80, Protocol.HTTP1, True, producer_rules=(rule,), has_producer_route=True
    )
    head = RequestHead(method, "/", "", "a", headers)
    return decide(frontend, WEB, "10.0.0.1", head, 0.0, compile_regex)


ORIGIN, METHOD = ("origin", SHOP), ("access-control-request-method", "PUT")


def test_a_preflight_is_answered_without_the_backend() -> None:
    for rule in (RULE, replace(RULE, backends=()), replace(RULE, filters=Filters(redirect=Redirect()))):
        decision = ask(rule, "OPTIONS", ORIGIN, METHOD)
        assert (decision.status, decision.reason, decision.endpoint) == (200, "cors-preflight", None)
        assert ("access-control-allow-origin", SHOP) in decision.fields
        assert not decision.is_refusal


def test_options_that_is_no_preflight_is_forwarded() -> None:
    assert ask(RULE, "OPTIONS", ORIGIN).endpoint == ENDPOINTS[0]
    assert ask(RULE, "OPTIONS", METHOD).changes is None


def test_a_request_with_an_origin_is_forwarded_whoever_asks() -> None:
    for origin in (SHOP, "https://evil.example"):
        decision = ask(RULE, "GET", ("origin", origin))
        assert (decision.status, decision.endpoint) == (0, ENDPOINTS[0])
        assert decision.changes is not None
        assert decision.changes.response == response_change(cors(SHOP), origin)
        assert decision.changes.is_for_one
    assert ask(RULE).changes is None, "who sends no Origin is nobody's browser"


def test_the_filter_comes_after_header_modifiers() -> None:
    before = header_change([("Access-Control-Allow-Origin", "*"), ("x", "1")])
    decision = ask(replace(RULE, filters=Filters(response=before)), "GET", ORIGIN)
    assert decision.changes is not None
    assert decision.changes.response == before.then(response_change(cors(SHOP), SHOP))


def test_a_backends_filter_counts_where_the_rule_has_none() -> None:
    other = cors("https://other.example")
    backends = (Backend("shop/b:80", 1, ENDPOINTS, cors=cors(SHOP)),)
    by_backend = replace(RULE, cors=None, backends=backends)
    assert ask(by_backend, "OPTIONS", ORIGIN, METHOD).reason == "cors-preflight"
    assert ask(by_backend, "GET", ORIGIN).changes == ask(RULE, "GET", ORIGIN).changes
    changes = ask(replace(by_backend, cors=other), "GET", ORIGIN).changes
    assert changes is not None
    assert changes.response == response_change(other, SHOP)


def test_a_failure_of_ours_is_no_response_of_the_backend() -> None:
    broken = replace(RULE, backends=(Backend("shop/b:80", 1, error="BackendNotFound"),))
    assert ask(broken, "GET", ORIGIN).changes is None
