"""AuthorizationPolicies in DryRun, through the real data path on loopback: requests pass, and are counted."""

from __future__ import annotations

from typing import Any

from nodeagent.core.model import Action, EnforcementLevel, HttpOperation, PathKind, Policy, PolicyRule
from nodeagent.core.traffic import Limit, Mode, RateLimitPolicy, RateLimitRule
from tests.proxy.harness import Client, Proxy, run

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
DELETE = b"DELETE / HTTP/1.1\r\nHost: shop\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMIT = RateLimitPolicy("shop/one", (RateLimitRule("each", Limit(1, 3_600_000, 1)),), mode=Mode.DRY_RUN)


def trying(action: Action, *http: HttpOperation, level: EnforcementLevel = EnforcementLevel.APPLICATION) -> Policy:
    return Policy("shop/p", action, level, (PolicyRule((), (), http),), dry_run=True)


NO_DELETE = trying(Action.DENY, HttpOperation(methods=("DELETE",)))


async def ask(client: Client, request: bytes = GET) -> int:
    await client.send(request)
    return (await client.response())[0]


def would(proxy: Proxy) -> dict[tuple[str, str], int]:
    """(word, policy) -> requests."""
    rows = [row for row in proxy.rows() if row["reason"].startswith("would-")]
    return {(row["reason"], row["policy"]): row["requests"] for row in rows}


def served(proxy: Proxy) -> list[dict[str, Any]]:
    return [row for row in proxy.rows() if not row["reason"]]


def test_a_request_that_would_be_denied_is_served_and_counted_beside() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, policies=(NO_DELETE,)) as p:
            client = await p.connect()
            assert [await ask(client, request) for request in (GET, DELETE, GET, DELETE)] == [200] * 4
            assert would(p) == {("would-deny", "shop/p"): 2}
            assert [(row["requests"], row["policy"]) for row in served(p)] == [(2, ""), (2, "")]
            assert p.engine.stats.dry_run == 2

    run(conversation())


def test_what_no_allow_in_dry_run_matches_would_be_denied() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, policies=(trying(Action.ALLOW, HttpOperation(methods=("GET",))),)) as p:
            client = await p.connect()
            assert [await ask(client, request) for request in (GET, DELETE)] == [200, 200]
            assert would(p) == {("would-deny", "shop/p"): 1}

    run(conversation())


def test_the_first_request_of_a_connection_that_would_not_be_made_is_the_kernels_to_count() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, policies=(trying(Action.DENY, level=EnforcementLevel.NETWORK),)) as p:
            for _ in range(2):
                assert await ask(await p.connect()) == 200
            assert would(p) == {}
            client = await p.connect()
            assert [await ask(client) for _ in range(3)] == [200] * 3
            assert would(p) == {("would-deny", "shop/p"): 2}

    run(conversation())


def test_a_request_that_would_be_denied_takes_no_token_of_a_limit_in_dry_run() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, policies=(NO_DELETE,), rate_limits=(LIMIT,)) as p:
            client = await p.connect()
            for request in (DELETE, DELETE, GET):
                assert await ask(client, request) == 200
            assert would(p) == {("would-deny", "shop/p"): 2}
            assert await ask(client, GET) == 200
            assert would(p) == {("would-deny", "shop/p"): 2, ("would-limit", "shop/one"): 1}

    run(conversation())


def test_an_observed_request_says_what_would_have_become_of_it() -> None:
    async def conversation() -> None:
        async with Proxy(answer=OK, policies=(NO_DELETE,), rate_limits=(LIMIT,)) as p:
            p.engine.observing = True
            client = await p.connect()
            for request in (GET, DELETE, GET):
                assert await ask(client, request) == 200
            said = [(event["verdict"], event["would"]) for event in p.events]
            assert said == [
                ("allowed", []),
                ("allowed", ["would-deny by shop/p"]),
                ("allowed", ["would-limit by shop/one"]),
            ]

    run(conversation())


def test_a_path_is_forwarded_as_it_came_though_a_policy_in_dry_run_reads_it() -> None:
    async def conversation() -> None:
        operation = HttpOperation(paths=((PathKind.PREFIX, "/admin"),))
        async with Proxy(answer=OK, policies=(trying(Action.DENY, operation),)) as p:
            client = await p.connect()
            assert await ask(client, b"GET /x/../%61dmin HTTP/1.1\r\nHost: shop\r\n\r\n") == 200
            assert p.upstream.received.startswith(b"GET /x/../%61dmin ")
            assert would(p) == {("would-deny", "shop/p"): 1}
            assert await ask(client, b"GET /a%2Fb HTTP/1.1\r\nHost: shop\r\n\r\n") == 200
            assert would(p) == {("would-deny", "shop/p"): 2}, "put in force, it has this one answered with 400"

    run(conversation())
