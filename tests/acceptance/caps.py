"""Acceptance of traffic 4: caps of a circuit breaker are exact, and nothing of them leaks with a worker that dies.

Demand is always far above the cap, on connections that the kernel spreads over both workers.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass

from tests.acceptance.gauged import CATALOG, Gauge, Stand, finish, outcomes
from tests.acceptance.in_force import wait_until
from tests.testbed.manifests import Document, traffic_policy

REQUESTS = 500
CAP = 50
CONNECT = 2.0  # seconds that a connect may take
WAIT = {"attempts": 1, "codes": [503], "backoff": "3s"}  # longer than all requests need to come
UNBOUND = {"percent": 100, "minRetryRate": {"count": 10_000}}


def policy(cap: str, **spec: object) -> Document:
    return traffic_policy("shop", "caps", CATALOG, circuitBreaker={cap: CAP}, **spec)


def connecting_policy() -> Document:
    return policy("maxPendingRequests", timeouts={"connect": f"{CONNECT:.0f}s"})


def retrying_policy() -> Document:
    return policy("maxParallelRetries", retry={**WAIT, "budget": UNBOUND})


@dataclass(frozen=True)
class Filled:
    """All requests came at once, and none is answered by the server before every other one is refused."""

    in_flight: int
    peak: int
    connections: int
    outcomes: Counter[str]


def fill(stand: Stand, gauge: Gauge) -> Filled:
    gauge.set(hold="forever")
    gauge.reset()
    client = stand.offer(stand.greedy, "-c", REQUESTS, "-n", 1)
    _wait_until_settled(gauge)
    state = gauge.state()
    gauge.release()
    return Filled(state.in_flight, state.peak, state.connections, outcomes(finish(client)))


def _wait_until_settled(gauge: Gauge, seconds: float = 1.0) -> None:
    """Until nothing has arrived for so long; at least one request must."""
    arrived, since, deadline = 0, time.monotonic(), time.monotonic() + 30
    while not arrived or time.monotonic() < since + seconds:
        assert time.monotonic() < deadline, f"{arrived} requests have arrived, and they do not cease"
        time.sleep(0.05)
        if (now := gauge.state().arrived) != arrived:
            arrived, since = now, time.monotonic()


@dataclass(frozen=True)
class Used:
    """Under lasting demand, of clients that come again."""

    peak: int
    mean: float  # in flight at the server
    outcomes: Counter[str]


def use(stand: Stand, gauge: Gauge, seconds: float) -> Used:
    gauge.set(hold="400ms")
    client = stand.offer(stand.greedy, "-c", REQUESTS, "-for", f"{seconds + 2}s", "-pause", "200ms")
    time.sleep(1.0)
    gauge.reset()
    time.sleep(seconds)
    state = gauge.state()
    return Used(state.peak, state.area / state.seconds, outcomes(finish(client)))


def pend(stand: Stand) -> Counter[str]:
    """All requests wait for connections to an endpoint that does not answer."""
    return outcomes(stand.offered(stand.greedy, "-c", REQUESTS, "-n", 1))


def retry(stand: Stand, gauge: Gauge) -> tuple[int, Counter[str]]:
    """All requests fail and are to wait for a retry: how many the server saw, and how they ended."""
    gauge.set(hold="0s", status=503, every=1)
    gauge.reset()
    found = outcomes(stand.offered(stand.greedy, "-c", REQUESTS, "-n", 1))
    return gauge.state().arrived, found


# ---- workers that die ----


@dataclass(frozen=True)
class Survived:
    kills: int
    refills: int  # kills after which the cap was used to the full again
    highest: int  # in flight at a time when nothing was ending
    lost: int  # requests that died with their worker


def kill_workers(stand: Stand, gauge: Gauge, kills: int, seed: int) -> Survived:
    """Each time the cap is full, and held by requests that nobody answers."""
    choose = random.Random(seed).choice
    gauge.set(hold="forever")
    gauge.reset()
    client = stand.offer(stand.greedy, "-c", REQUESTS, "-for", "10m", "-pause", "100ms", "-timeout", "10m")
    refills = highest = 0
    for _ in range(kills):
        _wait_until_full(gauge, 20.0)
        victim = choose(worker_pids(stand))
        os.kill(victim, signal.SIGKILL)
        _wait_until_replaced(stand, victim)
        _wait_until_full(gauge, 20.0)
        refills += 1
        highest = max(highest, _steadily(gauge, 0.3))
    lost = gauge.state().abandoned
    client.kill()
    client.communicate()
    gauge.release()
    wait_until(lambda: gauge.state().in_flight == 0, 10.0, "nothing is in flight")
    return Survived(kills, refills, highest, lost)


def worker_pids(stand: Stand) -> list[int]:
    return [pid for pid in stand.agent.pids() if b"nodeagent.proxy.worker" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _wait_until_full(gauge: Gauge, seconds: float) -> None:
    wait_until(lambda: gauge.state().in_flight >= CAP, seconds, f"{CAP} requests are in flight")


def _wait_until_replaced(stand: Stand, victim: int) -> None:
    def is_replaced() -> bool:
        pids = worker_pids(stand)
        return victim not in pids and len(pids) == 2 and stand.agent.admin("/readyz")[0] == 200

    wait_until(is_replaced, 20.0, "there are two workers again")


def _steadily(gauge: Gauge, seconds: float) -> int:
    """The most in flight over so long, the server having heard of every end before."""
    time.sleep(0.2)
    highest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        highest = max(highest, gauge.state().in_flight)
        time.sleep(0.02)
    return highest
