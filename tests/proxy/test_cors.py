"""CORS filters on the data path: the answer to a preflight, and the fields of real responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nodeagent.core.cors import Cors, parse_origin
from nodeagent.core.filters import Filters, Redirect
from nodeagent.core.model import Backend, PathKind, Rule
from nodeagent.core.traffic import Retry
from nodeagent.proxy import replies
from tests.proxy.harness import Client, Proxy, fields_of, run

SHOP = b"https://shop.example"
OK = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok"
ORIGIN = parse_origin(SHOP.decode())
assert ORIGIN is not None
CORS = Cors((ORIGIN,), methods=("PUT",), credentials=True)


def route(p: Proxy, **fields: Any) -> None:
    backends = () if fields.get("filters") else (Backend("shop/cart:80", 1, (p.upstream.endpoint,)),)
    rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), backends, **{"cors": CORS, **fields})
    p.apply(replace(p.destination, producer_rules=(rule,), has_producer_route=True))


def request(method: bytes = b"GET", origin: bytes = SHOP, more: bytes = b"") -> bytes:
    return method + b" /a HTTP/1.1\r\nHost: cart\r\nOrigin: " + origin + b"\r\n" + more + b"\r\n"


async def ask(client: Client, sent: bytes) -> dict[str, str]:
    await client.send(sent)
    assert (await client.response())[0] in (200, 302)
    return fields_of(client.head)


PREFLIGHT = request(b"OPTIONS", more=b"Access-Control-Request-Method: PUT\r\n")


def test_a_preflight_is_answered_here_and_the_connection_stays() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p)
            client = await p.connect()
            for _ in range(3):
                fields = await ask(client, PREFLIGHT)
                assert fields["access-control-allow-origin"] == SHOP.decode()
                assert fields["access-control-allow-methods"] == "PUT"
                assert fields["access-control-allow-credentials"] == "true"
                assert fields["x-mesh-reason"] == "cors-preflight"
            assert p.upstream.connections == []

    run(conversation())


def test_long_answers_that_clients_make_up_are_not_remembered() -> None:
    async def conversation() -> None:
        async with Proxy() as p:
            route(p, cors=replace(CORS, headers=("*",)))
            client = await p.connect()
            for long in (False, True):
                asked = b"x-a" + b"a" * 10_000 * long
                preflight = PREFLIGHT[:-2] + b"Access-Control-Request-Headers: " + asked + b"\r\n\r\n"
                before = replies._written.cache_info().misses
                for _ in range(2):
                    fields = await ask(client, preflight)
                    assert fields["access-control-allow-headers"] == asked.decode()
                assert replies._written.cache_info().misses == before + (not long)

    run(conversation())


def test_responses_say_it_for_the_origin_that_asks_and_for_no_other() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            for fields in ({}, {"retry": Retry()}):
                route(p, **fields)
                client = await p.connect()
                for _ in range(3):  # heads that come again are remembered, and what was decided of them is not
                    assert (await ask(client, request()))["access-control-allow-origin"] == SHOP.decode()
                    assert client.head.count(b"ccess-") == 2
                    assert b"Vary: Accept\r\n" in client.head
                    assert b"vary: Origin\r\n" in client.head
                    evil = await ask(client, request(origin=b"https://evil.example"))
                    assert "access-control-allow-origin" not in evil
                    none = await ask(client, b"GET /a HTTP/1.1\r\nHost: cart\r\n\r\n")
                    assert none["access-control-allow-origin"] == "*", "no cross-origin request: untouched"

    run(conversation())


def test_under_policies_each_origin_has_its_own_answer() -> None:
    """What is kept ready for a way is not what was said to another origin."""

    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            endpoints = (p.upstream.endpoint,) * 2
            backends = (Backend("shop/cart:80", 1, endpoints),)
            rule = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), backends, retry=Retry())
            every = Cors(any_origin=True, credentials=True)
            frontend = replace(p.destination, producer_rules=(replace(rule, cors=every),), has_producer_route=True)
            p.apply(frontend)
            client = await p.connect()
            for number in range(6):
                origin = f"https://{number}.example"
                assert (await ask(client, request(origin=origin.encode())))["access-control-allow-origin"] == origin

    run(conversation())


def test_a_redirect_may_be_followed_across_origins() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK) as p:
            route(p, filters=Filters(redirect=Redirect()))
            client = await p.connect()
            fields = await ask(client, request())
            assert (fields["location"], fields["access-control-allow-origin"]) == ("http://cart/a", SHOP.decode())

    run(conversation())
