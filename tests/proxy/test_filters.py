"""Filters of a route on the data path: the request as the upstream got it, the response as the client did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nodeagent.core.filters import Filters, PathChange, Redirect, Rewrite, header_change
from nodeagent.core.model import (
    Action,
    Backend,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Rule,
)
from tests.proxy.harness import Client, Proxy, fields_of, run

GET = b"GET /foo/bar?q=1 HTTP/1.1\r\nHost: cart\r\nX-Old: 1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nServer: up\r\nContent-Length: 2\r\n\r\nok"


def route(proxy: Proxy, rule: Filters, backend: Filters | None = None, prefix: str = "/foo", **fields: Any) -> None:
    """Put a route in force: `rule` filters what is below `prefix`, everything else is forwarded as it is."""
    endpoints = (proxy.upstream.endpoint,)
    behind = () if rule.redirect else (Backend("shop/cart:80", 1, endpoints, filters=backend or Filters()),)
    filtered = Rule("shop/r", "filtered", PathKind.PREFIX, prefix, "", (), (), behind, rule)
    usual = Rule("shop/r", "usual", PathKind.PREFIX, "/", "", (), (), (Backend("shop/cart:80", 1, endpoints),))
    proxy.apply(replace(proxy.destination, producer_rules=(filtered, usual), has_producer_route=True, **fields))


async def ask(client: Client, request: bytes = GET) -> tuple[int, bytes]:
    await client.send(request)
    return await client.response()


def test_the_upstream_gets_the_headers_of_the_rule_and_then_of_the_backend() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            rule = header_change([("x-rule", "1")], [("X-Old", "2")])
            backend = header_change([("X-Rule", "3")], [], ["x-old"])
            route(p, Filters(request=rule), Filters(request=backend))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            assert p.upstream.received == b"GET /foo/bar?q=1 HTTP/1.1\r\nHost: cart\r\nX-Rule: 3\r\n\r\n"

    run(conversation())


def test_requests_of_other_rules_on_the_same_connection_stay_as_they_are() -> None:
    """The head comes again byte for byte, so that a plan kept for it must not have been changed."""

    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            rule = Filters(header_change([("x", "1")]), header_change(adding=[("x-seen", "1")]), None, Rewrite("new"))
            client = await p.connect()
            for _ in range(4):
                route(p, rule)
                assert await ask(client) == (200, b"ok")
                assert "x-seen" in fields_of(client.head)
                route(p, rule, prefix="/other")
                assert await ask(client) == (200, b"ok")
                assert client.head == b"HTTP/1.1 200 OK\r\nServer: up\r\nContent-Length: 2\r\n\r\n"
            changed = GET.replace(b"Host: cart", b"Host: new").replace(b"\r\n\r\n", b"\r\nx: 1\r\n\r\n")
            assert p.upstream.received == (changed + GET) * 4

    run(conversation())


def test_the_body_follows_a_changed_head() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(request=header_change([("content-length", "9"), ("x", "1")])))
            client = await p.connect()
            head = b"POST /foo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
            assert await ask(client, head + b"hello") == (200, b"ok")
            assert p.upstream.received == head[:-2] + b"x: 1\r\n\r\nhello"

    run(conversation())


@pytest.mark.parametrize(
    ("rewrite", "line", "host"),
    [
        (Rewrite("inner.example"), b"GET /foo/bar?q=1 HTTP/1.1", "inner.example"),
        (Rewrite(path=PathChange("/all")), b"GET /all?q=1 HTTP/1.1", "cart"),
        (Rewrite(path=PathChange("/xyz", "/foo")), b"GET /xyz/bar?q=1 HTTP/1.1", "cart"),
        (Rewrite("b", PathChange("", "/foo")), b"GET /bar?q=1 HTTP/1.1", "b"),
    ],
)
def test_a_url_rewrite_changes_what_the_upstream_is_asked_for(rewrite: Rewrite, line: bytes, host: str) -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(rewrite=rewrite))
            client = await p.connect()
            for request in (GET, GET.replace(b"/foo/bar", b"http://cart/foo/bar"), GET.replace(b"/foo", b"/x/../foo")):
                assert await ask(client, request) == (200, b"ok")
            head, _, second = p.upstream.received.partition(b"\r\n\r\n")
            assert head.startswith(line + b"\r\n")
            assert fields_of(head)["host"] == host
            assert second == (head + b"\r\n\r\n") * 2, "the same request in other words"

    run(conversation())


def test_a_backend_rewrites_what_is_sent_to_it() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(rewrite=Rewrite("rule")), Filters(rewrite=Rewrite(path=PathChange("/xyz", "/foo"))))
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            assert p.upstream.received.startswith(b"GET /xyz/bar?q=1 HTTP/1.1\r\nHost: rule\r\n")

    run(conversation())


def test_policies_judge_the_request_as_it_came() -> None:
    """/foo is rewritten to /secret and back: what counts is what the caller asked for."""

    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            paths = ((PathKind.PREFIX, "/secret"),)
            deny = PolicyRule((), (), (HttpOperation(paths=paths, hosts=("cart",)),))
            policy = Policy("shop/p", Action.DENY, EnforcementLevel.APPLICATION, (deny,))
            away = Filters(rewrite=Rewrite("other", PathChange("/open", "/secret")))
            route(p, away, prefix="/secret", policies=(policy,))
            client = await p.connect()
            assert (await ask(client, GET.replace(b"/foo", b"/secret")))[0] == 403
            route(p, Filters(rewrite=Rewrite(path=PathChange("/secret", "/foo"))), policies=(policy,))
            assert await ask(client) == (200, b"ok")
            assert p.upstream.received.startswith(b"GET /secret/bar?q=1 HTTP/1.1\r\n")

    run(conversation())


def test_the_client_gets_the_changed_response_also_when_it_comes_again() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            rule = header_change([("X-Frame-Options", "DENY")], [("Set-Cookie", "a=1")], ["server"])
            route(p, Filters(response=rule), Filters(response=header_change([], [("Set-Cookie", "b=2")])))
            client = await p.connect()
            for _ in range(3):
                assert await ask(client) == (200, b"ok")
                assert client.head == (
                    b"HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
                    b"Content-Length: 2\r\n\r\n"
                )

    run(conversation())


def test_a_filter_cannot_change_how_a_response_is_framed() -> None:
    async def conversation() -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        async with Proxy(answer=chunked) as p:
            names = ("transfer-encoding", "connection", "content-length")
            route(p, Filters(response=header_change([("Content-Length", "1")], [("Connection", "close")], names)))
            client = await p.connect()
            for _ in range(2):
                assert await ask(client) == (200, b"ok")
                assert client.head == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    run(conversation())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_a_redirect_is_answered_by_the_proxy_and_the_connection_goes_on(status: int, method: bytes) -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(redirect=Redirect(status, "https", "new.example", 0, PathChange("/xyz", "/foo"))))
            client = await p.connect()
            body = b"hello" if method == b"POST" else b""
            length = b"\r\nContent-Length: 5\r\n\r\n" if body else b"\r\n\r\n"
            await client.send(GET.replace(b"GET", method).replace(b"\r\n\r\n", length) + body)
            assert (await client.response(head_only=method == b"HEAD"))[0] == status
            found = fields_of(client.head)
            assert (found["location"], found["x-mesh-reason"]) == ("https://new.example/xyz/bar?q=1", "redirect")
            assert p.upstream.received == b""
            assert await ask(client, GET.replace(b"/foo", b"/usual")) == (200, b"ok")
            assert {row["response_code"] for row in p.rows()} == {str(status), "200"}

    run(conversation())


def test_requests_pipelined_behind_a_redirect_are_answered_in_order() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(redirect=Redirect(port=8443)))
            client = await p.connect()
            posted = b"POST /foo HTTP/1.1\r\nHost: CART:80\r\nContent-Length: 5\r\n\r\nhello"
            await client.send(GET + posted + GET.replace(b"/foo", b"/usual") + GET)
            answers = []
            for _ in range(4):
                status, _body = await client.response()
                answers.append((status, fields_of(client.head).get("location")))
            assert answers == [
                (302, "http://cart:8443/foo/bar?q=1"),
                (302, "http://cart:8443/foo"),
                (200, None),
                (302, "http://cart:8443/foo/bar?q=1"),
            ]
            assert len(p.upstream.received.split(b"\r\n\r\n")) == 2

    run(conversation())


def test_response_headers_of_the_rule_are_on_its_redirects_too() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            change = header_change([("Location", "http://elsewhere/"), ("X-Safe", "1")], [], ["content-type"])
            route(p, Filters(response=change, redirect=Redirect(hostname="b")))
            client = await p.connect()
            assert (await ask(client))[0] == 302
            assert client.head.count(b"ocation:") == 1
            found = fields_of(client.head)
            assert (found["location"], found["x-safe"]) == ("http://b/foo/bar?q=1", "1")
            assert "content-type" not in found

    run(conversation())


def test_a_redirect_is_no_error_to_who_watches() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, Filters(redirect=Redirect(hostname="b")))
            p.engine.observing = True
            await ask(await p.connect())
            (event,) = p.events
            assert (event["status"], event["verdict"], event["rule"]) == (302, "allowed", "filtered")
            assert event["path"] == "/foo/bar"

    run(conversation())
