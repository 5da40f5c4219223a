"""Acceptance of traffic 4: outlier detection, seen from the pods: when each of them gets requests, and when none.

The load is open-loop over 16 connections, which the kernel spreads over both workers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.gauged import CATALOG, NS, Gauge, Stand, finish
from tests.testbed.manifests import Document, traffic_policy

RATE = 400  # requests a second
BASE = 1.0  # seconds of the first ejection
PROBE = 0.3  # seconds that a probe takes
THRESHOLD = 5
INTERVAL = 2.0
UNDER_WAY = 0.1  # seconds in which requests arrive that were on their way when their endpoint was ejected
WINDOW = 0.2  # seconds in which a pod that is not ejected gets some request


def policy(**outliers: object) -> Document:
    spec = {"baseEjectionTime": f"{BASE:.0f}s", "interval": f"{INTERVAL:.0f}s", **outliers}
    return traffic_policy("shop", "outliers", CATALOG, outlierDetection=spec)


def consecutive(**outliers: object) -> Document:
    """Nothing but 5xx in a row."""
    return policy(consecutive5xxErrors=THRESHOLD, consecutiveLocalOriginFailures=0, **outliers)


def by_rate() -> Document:
    """Nothing but success rates."""
    rates = {"minimumHosts": 5, "requestVolume": 30}
    return policy(consecutive5xxErrors=0, consecutiveLocalOriginFailures=0, successRate=rates)


@dataclass(frozen=True)
class Ejections:
    """Of one pod that fails from the start until shortly before its third probe.

    `bursts`: its requests, those closer together than half of BASE as one: (seconds since the first, length, count).
    """

    bursts: list[tuple[float, float, int]]
    failed: int  # answers other than 200 that the client got


def eject_and_probe(stand: Stand) -> Ejections:
    """The n-th ejection lasts n x BASE.  A probe takes its time, in which any other request would be seen."""
    bad = stand.gauges[0]
    client = stand.offer(stand.greedy, "-c", 16, "-rate", RATE, "-for", f"{BASE * 6 + 4:.1f}s")
    time.sleep(1.0)
    bad.reset()
    bad.set(status=500, every=1)
    _wait_for(bad, THRESHOLD)
    bad.set(hold=f"{PROBE:.1f}s")
    time.sleep(BASE * 3 + 1.0)  # over the first two probes
    bad.set(every=0)
    found = finish(client)
    return Ejections(_bursts([when for when, _ in bad.arrivals()]), sum(one.status != 200 for one in found))


def _wait_for(gauge: Gauge, count: int) -> None:
    deadline = time.monotonic() + 5
    while gauge.state().arrived < count:
        assert time.monotonic() < deadline, f"no {count} requests in 5 s"
        time.sleep(0.005)


def _bursts(times: Sequence[int]) -> list[tuple[float, float, int]]:
    groups: list[list[int]] = []
    for when in sorted(times):
        if groups and when - groups[-1][-1] < BASE / 2 * NS:
            groups[-1].append(when)
        else:
            groups.append([when])
    start = groups[0][0]
    return [((group[0] - start) / NS, (group[-1] - group[0]) / NS, len(group)) for group in groups]


@dataclass(frozen=True)
class Silences:
    """Which pods got no request in each WINDOW, while all of them failed."""

    most: int
    usual: int  # the median: as many as may be ejected are
    windows: int


def fail_everywhere(stand: Stand, seconds: float) -> Silences:
    """The whole Service is broken: so is every pod that is not ejected."""
    for gauge in stand.gauges:
        gauge.set(status=500, every=1)
        gauge.reset()
    client = stand.offer(stand.greedy, "-c", 16, "-rate", RATE, "-for", f"{seconds}s")
    finish(client)
    times = [[when for when, _ in gauge.arrivals()] for gauge in stand.gauges]
    silent = sorted(_silent(times))
    return Silences(silent[-1], silent[len(silent) // 2], len(silent))


def _silent(times: Sequence[Sequence[int]]) -> list[int]:
    """How many pods got nothing, in each window from the first request to the last."""
    every = sorted(itertools.chain.from_iterable(times))
    count = int((every[-1] - every[0]) / NS / WINDOW)
    seen = [{int((when - every[0]) / NS / WINDOW) for when in pod} for pod in times]
    return [sum(window not in pod for pod in seen) for window in range(count)]


@dataclass(frozen=True)
class Rated:
    seconds: float  # from its first failure to the last request before it was ejected
    failed: int  # of `asked` requests that it got until then
    asked: int
    silence: float  # seconds without any request after that, the first that are half of BASE


def eject_by_rate(stand: Stand) -> Rated:
    """Every second answer of one pod is a failure: no row of them is ever long."""
    bad = stand.gauges[0]
    client = stand.offer(stand.greedy, "-c", 16, "-rate", RATE, "-for", f"{INTERVAL * 2 + BASE + 3:.1f}s")
    time.sleep(1.3)
    bad.reset()
    bad.set(status=500, every=2)
    finish(client)
    arrivals = bad.arrivals()
    times = [when for when, _ in arrivals]
    first = next(when for when, status in arrivals if status == 500)
    gaps = (((after - before) / NS, before) for before, after in itertools.pairwise(times))
    gap, last = next(found for found in gaps if found[0] > BASE / 2)
    until = [status for when, status in arrivals if when <= last]
    return Rated((last - first) / NS, until.count(500), len(until), gap)
