"""Header matches from the manifest to the bytes on the wire: no value is inert because it is not ASCII."""

from __future__ import annotations

import pytest

from nodeagent.core.decide import decide
from nodeagent.proxy.request_heads import RequestHeads
from nodeagent.proxy.view import View
from nodeagent.regex import compile_regex
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart"), *some.service("v2", some.OTHER_VIP, some.OTHER_POD)]
EXACT: Document = {"name": "x-team", "value": "café"}
DOT: Document = {"name": "x-team", "value": "caf.", "type": "RegularExpression"}
CLASS: Document = {"name": "x-team", "value": "caf[éè].*", "type": "RegularExpression"}


def received(value: bytes, *documents: Document) -> tuple[int, str]:
    """(status, backend) of what the worker reads from a request of shop/web to cart with this x-team."""
    snap = some.snapshot(*BASE, *documents)
    destination, caller = snap.destinations[some.VIP, 80], snap.workloads["shop/web"]
    raw = b"GET / HTTP/1.1\r\nHost: cart\r\nX-Team: %b\r\n\r\n" % value
    _, head = RequestHeads(100).read(View(1, destination, compile_regex), raw)
    decision = decide(destination, caller, some.WEB, head, 0.0, compile_regex)
    judged = View(1, destination, compile_regex).judge.decide(caller, some.WEB, head, 0.0)
    assert judged == decision, "the data path's judge agrees"
    return decision.status, decision.backend


@pytest.mark.parametrize("match", [EXACT, DOT, CLASS], ids=["exact", "dot", "class"])
@pytest.mark.parametrize(
    "value",
    ["café".encode(), "café".encode("latin-1"), "a, café".encode(), b"a\r\nX-Team: caf\xc3\xa9"],
    ids=["utf-8", "latin-1", "element", "line"],
)
def test_a_deny_matches_a_value_in_either_encoding(match: Document, value: bytes) -> None:
    assert received(value, some.policy("p", "DENY", [{"http": {"headers": [match]}}]))[0] == 403
    assert received(b"cafe-x", some.policy("p", "DENY", [{"http": {"headers": [match]}}]))[0] == 0


def test_bytes_that_are_no_utf_8_are_no_way_around_a_deny() -> None:
    deny = some.policy("p", "DENY", [{"http": {"headers": [CLASS]}}])
    assert received("café".encode() + b"\xff", deny)[0] == 403
    anything = some.policy("p", "DENY", [{"http": {"headers": [{**DOT, "value": ".*"}]}}])
    assert received(b"\xff\xfe", anything)[0] == 403


@pytest.mark.parametrize("match", [EXACT, DOT, CLASS], ids=["exact", "dot", "class"])
def test_an_allow_and_a_route_match_utf_8(match: Document) -> None:
    allow = some.policy("p", "ALLOW", [{"http": {"headers": [match]}}])
    assert (received("café".encode(), allow)[0], received("cafÃ©".encode(), allow)[0]) == (0, 403)
    rules: list[Document] = [
        {"matches": [{"headers": [match]}], "backendRefs": [manifests.backend("v2", 1)]},
        {"backendRefs": [manifests.backend("cart", 1)]},
    ]
    route = manifests.http_route("shop", "r", "cart", rules)
    assert received("café".encode(), route)[1] == "shop/v2:80"
    assert received(b"cafe-x", route)[1] == "shop/cart:80"


def test_a_path_pattern_with_characters_that_no_path_holds_is_refused() -> None:
    path = {"type": "RegularExpression", "value": "/café.*"}
    deny = some.policy("p", "DENY", [{"http": {"paths": [path]}}])
    route = manifests.http_route("shop", "r", "cart", [{"matches": [{"path": path}]}])
    problems = some.load({"all.yaml": some.text(*BASE, deny, route)})[1].problems
    assert [problem.field for problem in problems] == [
        "spec.rules[0].http.paths[0].value",
        "spec.rules[0].matches[0].path.value",
    ]
    assert all("é is %C3%A9" in problem.message for problem in problems)
