"""What a worker knows of a backend outlives snapshots, and what workers share of it holds for each of them."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from nodeagent.core.ledger import LocalLedger
from nodeagent.core.model import Endpoint, Treatment
from nodeagent.core.outlier import Kind
from nodeagent.core.traffic import (
    Balancing,
    CircuitBreaker,
    LoadBalancer,
    OutlierDetection,
    Retry,
    RetryBudget,
    SuccessRate,
    TrafficPolicy,
)
from nodeagent.proxy.policies import handling
from nodeagent.proxy.policies.cluster import Cluster
from nodeagent.proxy.policies.handling import Handlings
from nodeagent.proxy.sockets import LocalSockets
from tests.proxy.harness import Client, Proxy, ScriptedUpstream, run, settle

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAILED = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
FAILED_503 = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
V4 = tuple(Endpoint("198.18.0.1", 8000 + number) for number in range(10))
V6 = tuple(Endpoint("fd00::1", 8000 + number) for number in range(10))
EJECT_AT_ONCE = OutlierDetection(consecutive_5xx=1, max_ejection_percent=50)


def policy(**fields: object) -> TrafficPolicy:
    return TrafficPolicy("shop/payments", **fields)  # type: ignore[arg-type]


def ledger() -> LocalLedger:
    return LocalLedger(time.monotonic_ns)


def cluster(shared: LocalLedger, endpoints: tuple[Endpoint, ...], *, v6: bool = False) -> Cluster:
    return Cluster(shared, "shop/b:80", policy(outlier_detection=EJECT_AT_ONCE), endpoints, v6=v6)


def unfit(one: Cluster) -> set[Endpoint]:
    assert one.health is not None
    return {one.loads.endpoints[index] for index in one.health.unfit(time.monotonic_ns())}


async def status(client: Client, request: bytes = GET) -> int:
    await client.send(request)
    return (await client.response())[0]


# ---- snapshots ----


def test_what_is_under_way_is_remembered_over_snapshots_that_follow_each_other() -> None:
    async def conversation() -> None:
        traffic = policy(load_balancer=LoadBalancer(Balancing.LEAST_REQUEST))
        async with Proxy(traffic=traffic) as p:
            other = ScriptedUpstream(OK)
            waiting, client = await p.connect(), await p.connect()
            await waiting.send(GET)
            await p.upstream.accept()
            for _ in range(3):
                p.set_endpoints(p.upstream.endpoint, other.endpoint)
            assert [await status(client) for _ in range(20)] == [200] * 20
            await other.close()

    run(conversation())


def test_a_cluster_goes_when_nothing_led_to_it_for_a_minute_and_nothing_is_under_way() -> None:
    seconds = 0.0
    handlings = Handlings(ledger(), lambda: seconds)
    one = handlings.of(Treatment("shop/b:80", V4, policy())).cluster
    assert one is not None
    handlings.forget()
    one.loads.enter(V4[0])
    for seconds in (1.0, handling.KEEP_SECONDS):  # noqa: B007 - the clock
        handlings.forget()
        assert handlings.clusters() == [one]
    one.loads.leave(V4[0])
    handlings.forget()
    assert handlings.clusters() == []


class Failing(LocalLedger):
    """As a kernel without memory."""

    fails = True

    def read(self, key: int) -> tuple[int, bytes]:
        if self.fails:
            raise OSError("no memory")
        return super().read(key)


def test_a_cluster_that_could_not_be_made_or_changed_is_by_the_next_request() -> None:
    seconds = 0.0
    shared = Failing(time.monotonic_ns)
    handlings = Handlings(shared, lambda: seconds)
    treatment = Treatment("shop/b:80", V4, policy(outlier_detection=EJECT_AT_ONCE))
    with pytest.raises(OSError, match="no memory"):
        handlings.of(treatment)
    for seconds in (0.0, 2 * handling.KEEP_SECONDS):  # noqa: B007 - the clock
        handlings.forget()
    shared.fails = False
    one = handlings.of(treatment).cluster
    assert one is not None
    handlings.forget()
    shared.fails = True
    changed = replace(treatment, traffic=policy(outlier_detection=replace(EJECT_AT_ONCE, max_ejection_percent=10)))
    for _ in range(2):
        with pytest.raises(OSError, match="no memory"):
            handlings.of(changed)


def test_a_change_of_the_balancer_leaves_no_request_behind_and_takes_none_of_others() -> None:
    async def conversation() -> None:
        weighing = policy(load_balancer=LoadBalancer(Balancing.LEAST_REQUEST))
        async with Proxy(traffic=weighing) as p:
            upstreams = []
            for traffic in (weighing, policy(), weighing):
                p.apply(replace(p.destination, traffic=traffic))
                client = await p.connect()
                await client.send(GET)
                upstreams.append(await p.upstream.accept())
            (cluster,) = p.engine.handlings.clusters()
            outstanding = [cluster.loads.outstanding.copy()]
            for upstream in upstreams[::-1]:
                await upstream.send(OK)
                await settle()
                outstanding.append(cluster.loads.outstanding.copy())
            assert outstanding == [[2], [1], [1], [0]]

    run(conversation())


@pytest.mark.parametrize("later", [CircuitBreaker(max_parallel_retries=2), None])
def test_a_retry_is_refused_in_words_also_when_its_cap_was_changed_meanwhile(later: CircuitBreaker | None) -> None:
    async def conversation() -> None:
        retry = Retry(attempts=1, backoff=60_000, budget=RetryBudget(percent=100, floor=1000))
        async with Proxy(traffic=policy(retry=retry, circuit_breaker=CircuitBreaker(max_parallel_retries=1))) as p:
            waiting, trying, new = [await p.connect() for _ in range(3)]
            await waiting.send(GET)
            await (await p.upstream.accept()).send(FAILED_503)
            await settle()
            await trying.send(GET)
            upstream = await p.upstream.accept()
            p.apply(replace(p.destination, traffic=policy(retry=retry, circuit_breaker=later)))
            await new.send(GET)
            await p.upstream.accept()
            await upstream.send(FAILED_503)
            assert (await trying.response())[0] == 503
            assert trying.reason == "circuit-breaker-max-parallel-retries"

    run(conversation())


# ---- the health of endpoints ----


def test_the_families_of_a_backend_do_not_forget_each_others_ejections() -> None:
    shared = ledger()
    four, six = cluster(shared, V4), cluster(shared, V6, v6=True)
    four.answered(V4[0], 500, 0.1)
    six.answered(V6[0], 500, 0.1)
    assert (unfit(four), unfit(six)) == ({V4[0]}, {V6[0]})


def test_workers_with_different_lists_agree_on_what_both_know() -> None:
    shared = ledger()
    old, new = cluster(shared, V4), cluster(shared, V4)
    new.update(policy(outlier_detection=EJECT_AT_ONCE), V4[::-1])
    old.answered(V4[0], 500, 0.1)
    assert (unfit(old), unfit(new)) == ({V4[0]}, {V4[0]})


def test_of_fewer_endpoints_fewer_stay_ejected() -> None:
    """5 of 10 are out, which is the half; of the 6 that are left 3 may be."""
    one = cluster(ledger(), V4)
    for endpoint in V4[:5]:
        one.answered(endpoint, 500, 0.1)
    assert unfit(one) == set(V4[:5])
    one.update(policy(outlier_detection=EJECT_AT_ONCE), V4[:6])
    assert unfit(one) == set(V4[2:5])  # those that were out for longest came back


def test_a_lower_percent_holds_at_once() -> None:
    one = cluster(ledger(), V4)
    for endpoint in V4[:5]:
        one.answered(endpoint, 500, 0.1)
    one.update(policy(outlier_detection=replace(EJECT_AT_ONCE, max_ejection_percent=20)), V4)
    assert len(unfit(one)) == 2


def test_an_endpoint_far_below_the_others_is_ejected_soon_after_the_interval_by_what_all_workers_saw() -> None:
    """Neither of two workers has seen enough requests by itself, and one of them sees none at the end."""
    shared = ledger()
    rate = SuccessRate(minimum_hosts=5, request_volume=10)
    detection = OutlierDetection(consecutive_5xx=0, success_rate=rate, interval=100)
    first, second = (Cluster(shared, "shop/b:80", policy(outlier_detection=detection), V4) for _ in range(2))
    for one in (first, second):
        for endpoint in V4:
            for _ in range(6):
                one.answered(endpoint, 500 if endpoint == V4[3] else 200, 0.1)
        assert one.tick() == (0, 0)
    time.sleep(0.1)
    assert first.tick() == (1, 0)
    assert (unfit(first), unfit(second)) == ({V4[3]}, {V4[3]})


def test_counts_of_endpoints_that_have_gone_are_not_kept_though_no_record_takes_them() -> None:
    full = LocalLedger(time.monotonic_ns)
    full.swap = lambda *_: False  # type: ignore[method-assign]
    detection = OutlierDetection(success_rate=SuccessRate())
    one = Cluster(full, "shop/b:80", policy(outlier_detection=detection), V4)
    assert one.health is not None
    for endpoint in V4:
        one.answered(endpoint, 200, 0.1)
        one.tick()
    one.update(policy(outlier_detection=detection), V4[:2])
    assert len(one.health.tallies) == 2


@pytest.mark.parametrize("kind", list(Kind))
def test_two_workers_send_one_probe_between_them(kind: Kind) -> None:
    shared = ledger()
    detection = replace(EJECT_AT_ONCE, base_ejection_time=10, consecutive_gateway_errors=1)
    both = [Cluster(shared, "shop/b:80", policy(outlier_detection=detection), V4[:2]) for _ in range(2)]
    if kind is Kind.LOCAL_ORIGIN:
        for _ in range(5):
            both[0].failed(V4[0])
    else:
        both[0].answered(V4[0], 502 if kind is Kind.GATEWAY_ERROR else 500, 0.1)
    time.sleep(0.02)
    chosen = [one.choose(V4[1], None, "", (), again=False) for one in both * 5]  # type: ignore[arg-type]
    assert [endpoint for endpoint, _ in filter(None, chosen)].count(V4[0]) == 1


class NoSockets(LocalSockets):
    """The caller's pod has none to give."""

    def take(self, cookie: int, family: int) -> socket.socket | None:
        return None

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        ready(OSError(errno.EMFILE, "no socket"))


def test_an_endpoint_is_not_blamed_for_what_the_callers_pod_lacks() -> None:
    async def conversation() -> None:
        detection = OutlierDetection(consecutive_local_origin_failures=1)
        async with Proxy(answer=OK, traffic=policy(outlier_detection=detection)) as p:
            p.engine.sockets = NoSockets()
            client = await p.connect()
            assert [await status(client) for _ in range(3)] == [503] * 3
            assert client.reason == "upstream-connect-failed"
            p.engine.sockets = LocalSockets()
            assert await status(client) == 200

    run(conversation())


@pytest.mark.parametrize("dry_run", [False, True])
def test_ejections_are_counted_and_those_of_a_dry_run_are_not(dry_run: bool) -> None:
    async def conversation() -> None:
        one = policy(outlier_detection=OutlierDetection(consecutive_5xx=1))
        async with Proxy(answer=FAILED, traffic=None if dry_run else one, shadow=one if dry_run else None) as p:
            client = await p.connect()
            await status(client)
            await status(client)
            await asyncio.sleep(0.3)
            expected = 0 if dry_run else 1
            assert (p.engine.stats.ejections, p.engine.gauges()["ejected"]) == (expected, expected)
            assert p.engine.gauges()["clusters"] == 1

    run(conversation())


class Racing(LocalLedger):
    """What `other` does comes first, once."""

    other: Callable[[], object] | None = None

    def swap(self, key: int, version: int, content: bytes) -> bool:
        other, self.other = self.other, None
        if other is not None:
            other()
        return super().swap(key, version, content)


def test_an_ejection_is_counted_by_the_worker_that_brought_it_about_and_no_other() -> None:
    shared = Racing(time.monotonic_ns)
    first, second = cluster(shared, V4), cluster(shared, V4)
    shared.other = lambda: first.answered(V4[0], 500, 0.1)
    assert not second.answered(V4[0], 500, 0.1)
    assert (first.tick(), second.tick()) == ((1, 0), (0, 0))


# ---- connections ----


def serving(shared: LocalLedger, cap: int, answer: Callable[[bytes], bytes] | bytes | None = OK) -> Proxy:
    return Proxy(answer=answer, ledger=shared, traffic=policy(circuit_breaker=CircuitBreaker(max_connections=cap)))


def test_idle_connections_of_another_worker_give_way_within_a_tick_or_two() -> None:
    async def conversation() -> None:
        shared = ledger()
        async with serving(shared, 2) as one, serving(shared, 2) as two:
            clients = [await one.connect() for _ in range(2)]
            for client in clients:
                await client.send(GET)
            assert [(await client.response())[0] for client in clients] == [200, 200]
            assert one.engine.pool.size == 2
            late = await two.connect()
            assert await status(late) == 503
            assert late.reason == "circuit-breaker-max-connections"
            await asyncio.sleep(0.6)
            assert await status(late) == 200
            assert one.engine.pool.size == 1

    run(conversation())


def test_connections_in_use_give_way_to_nobody_and_an_old_wish_is_forgotten() -> None:
    async def conversation() -> None:
        shared = ledger()
        async with serving(shared, 1, answer=None) as one, serving(shared, 1) as two:
            client, late = await one.connect(), await two.connect()
            await client.send(GET)
            await one.upstream.accept()
            assert await status(late) == 503
            await asyncio.sleep(1.3)
            await one.upstream.send(OK)
            assert (await client.response())[0] == 200
            await asyncio.sleep(0.5)
            assert one.engine.pool.size == 1

    run(conversation())


def test_idle_connections_to_an_endpoint_are_found_by_their_group_alone() -> None:
    async def conversation() -> None:
        async with serving(ledger(), 2) as p:
            others = [ScriptedUpstream(OK) for _ in range(3)]
            client = await p.connect()
            for upstream in (p.upstream, *others) * 3:
                p.set_endpoints(upstream.endpoint)
                assert await status(client) == 200
                assert p.engine.pool.size <= 2
            group = p.engine.handlings.clusters()[0].group
            assert [p.engine.pool.close_idle_of(group) for _ in range(3)] == [True, True, False]
            assert not p.engine.pool.close_idle_of("another")
            assert p.engine.pool.size == 0
            for one in others:
                await one.close()

    run(conversation())


# ---- requests ----


def test_two_workers_share_a_cap_on_parallel_requests_exactly() -> None:
    async def conversation() -> None:
        shared, traffic = ledger(), policy(circuit_breaker=CircuitBreaker(max_parallel_requests=3))
        async with Proxy(ledger=shared, traffic=traffic) as one, Proxy(ledger=shared, traffic=traffic) as two:
            clients = [await p.connect() for p in (one, two) * 4]
            for client in clients:
                await client.send(GET)
            await settle(0.1)
            under_way = len(one.upstream.connections) + len(two.upstream.connections)
            assert under_way == 3
            for p in (one, two):
                for connection in p.upstream.connections:
                    await connection.send(OK)
            answers = [(await client.response())[0] for client in clients]
            assert sorted(answers) == [200] * 3 + [503] * 5
            [slot] = [c.caps.parallel_requests for c in one.engine.handlings.clusters()]
            assert slot is not None
            assert shared.held(slot) == 0

    run(conversation())
