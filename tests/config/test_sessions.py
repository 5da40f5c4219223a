"""`retry` and `sessionPersistence` of a rule: what they are read as, and what is refused with which words."""

from __future__ import annotations

import pytest

from nodeagent.config.conditions import PARTIALLY_INVALID
from nodeagent.core.model import Decision, Rule
from nodeagent.core.traffic import Carrier, Retry, SessionPersistence
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, backend

BASE = [*some.callers(), *some.service("cart")]


def route(name: str = "r", **rule: object) -> Document:
    return manifests.http_route("shop", name, "cart", [{"backendRefs": [backend("cart", 1)], **rule}])


def compiled(document: Document) -> Rule:
    (rule,) = some.snapshot(*BASE, document).destinations[some.VIP, 80].producer_rules
    return rule


def session(**value: object) -> SessionPersistence:
    found = compiled(route(sessionPersistence=value)).session
    assert found is not None
    return found


def ask(document: Document) -> Decision:
    return some.ask(some.snapshot(*BASE, document), "shop/web")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, Retry()),
        ({"attempts": 3}, Retry(attempts=3)),
        ({"codes": [500, 503]}, Retry(codes=frozenset({500, 503}))),
        ({"codes": [], "backoff": "1s500ms"}, Retry(backoff=1500)),
    ],
)
def test_retries_are_read(value: Document, expected: Retry) -> None:
    assert compiled(route(retry=value)).retry == expected


def test_a_decision_carries_retry_and_session() -> None:
    treatment = ask(route(retry={"attempts": 2}, sessionPersistence={"cookie": {"name": "s"}})).treatment
    assert treatment is not None
    assert (treatment.retry, treatment.session) == (Retry(2), SessionPersistence("s"))
    assert [endpoint.address for endpoint in treatment.endpoints] == [some.POD]
    assert ask(route()).treatment is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"cookie": {"name": "s"}}, SessionPersistence("s")),
        ({"type": "Cookie", "cookie": {"name": "s", "path": "/a"}}, SessionPersistence("s", path="/a")),
        (
            {"cookie": {"name": "s", "lifetimeType": "Permanent"}, "absoluteTimeout": "1h"},
            SessionPersistence("s", absolute_timeout=3_600_000, permanent=True),
        ),
        ({"cookie": {"name": "s"}, "absoluteTimeout": "90s"}, SessionPersistence("s", absolute_timeout=90_000)),
        ({"type": "Header", "header": {"name": "X-S"}}, SessionPersistence("x-s", Carrier.HEADER)),
        ({"sessionName": "s"}, SessionPersistence("s")),
        (
            {"sessionName": "s", "cookieConfig": {"lifetimeType": "Permanent"}, "absoluteTimeout": "1s"},
            SessionPersistence("s", absolute_timeout=1000, permanent=True),
        ),
        ({"sessionName": "S", "type": "Header"}, SessionPersistence("s", Carrier.HEADER)),
    ],
)
def test_sessions_are_read_in_both_spellings(value: Document, expected: SessionPersistence) -> None:
    assert session(**value) == expected


def test_a_session_without_a_name_gets_one_that_no_other_rule_has() -> None:
    first, again = session(), session()
    other = compiled(route("other", sessionPersistence={})).session
    assert other is not None
    assert first == again
    assert first.name != other.name
    assert first.name.startswith("mesh-session-")
    assert session(type="Header").name.startswith("x-mesh-session-")


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"retry": {"codes": [399]}}, "retry.codes[0]", "too small"),
        ({"retry": {"codes": [600]}}, "retry.codes[0]", "too large"),
        ({"retry": {"attempts": -1}}, "retry.attempts", "too small"),
        ({"retry": {"backoff": "1.5s"}}, "retry.backoff", "is not a duration"),
        ({"retry": {"tries": 1}}, "retry.tries", "unknown field"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused_at_its_field(value: Document, field: str, words: str) -> None:
    _refused(route(**value), field, words)


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"cookie": {"lifetimeType": "Permanent"}}, "absoluteTimeout", "lifetimeType is Permanent"),
        ({"cookie": {"lifetimeType": "Permanent"}, "absoluteTimeout": "0s"}, "absoluteTimeout", "is Permanent"),
        ({"cookieConfig": {"lifetimeType": "Permanent"}}, "absoluteTimeout", "cookieConfig.lifetimeType"),
        ({"type": "Header", "cookie": {}}, "cookie", "when the type is Header"),
        ({"header": {"name": "x"}}, "header", "when the type is Cookie"),
        ({"cookie": {"name": "a b"}}, "cookie.name", "is not a name"),
        ({"cookie": {"name": "s" * 129}}, "cookie.name", "at most 128"),
        ({"cookie": {"path": "a"}}, "cookie.path", "start with a slash"),
        ({"cookie": {"path": "/a;b"}}, "cookie.path", "semicolon"),
        ({"type": "Header", "header": {"name": "Host"}}, "header.name", "must not be changed"),
        ({"type": "Header", "sessionName": "Connection"}, "sessionName", "must not be changed"),
        ({"sessionName": "s", "cookie": {}}, "sessionName", "must not be given with cookie"),
        ({"idleTimeout": "1s"}, "idleTimeout", "unknown field"),
        ({"absoluteTimeout": "1d"}, "absoluteTimeout", "is not a duration"),
    ],
)
def test_a_session_that_makes_no_sense_is_refused_at_its_field(value: Document, field: str, words: str) -> None:
    _refused(route(sessionPersistence=value), f"sessionPersistence.{field}", words)


def _refused(document: Document, field: str, words: str) -> None:
    found = some.load({"base.yaml": some.text(*BASE), "r.yaml": some.text(document)})[1]
    assert found.routes == {}
    ((at, message),) = [(problem.field, problem.message) for problem in found.problems]
    assert at == f"spec.rules[0].{field}"
    assert words in message


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"type": "Telepathy"}, "type"),
        ({"cookie": {"lifetimeType": "Eternal"}}, "cookie.lifetimeType"),
        ({"cookieConfig": {"lifetimeType": "Eternal"}}, "cookieConfig.lifetimeType"),
    ],
)
def test_an_unknown_kind_of_session_rejects_its_rule_and_no_other(value: Document, field: str) -> None:
    served = {"backendRefs": [backend("cart", 1)]}
    matches = [{"path": {"type": "PathPrefix", "value": "/x"}}]
    one = manifests.http_route(
        "shop", "r", "cart", [{**served, "matches": matches, "sessionPersistence": value}, served]
    )
    snap, conditions = some.compiled(*BASE, one)
    assert some.ask(snap, "shop/web", request=some.head("/x")).reason == "unsupported-value"
    assert some.ask(snap, "shop/web").status == 0
    partly = some.condition(conditions, PARTIALLY_INVALID, "shop/r")
    assert partly.field == f"spec.rules[0].sessionPersistence.{field}"
