"""Acceptance of traffic 5: rate limits, under five times the load that they let through.

When a request was let through is not seen from outside, but it was between its sending and its answer.  So of what was
sent and answered within a window all was let through in it: that must never be more than the limit allows.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.acceptance.figures import Line, lines
from tests.acceptance.gauged import CATALOG, NS, Answer, Stand, finish, outcomes
from tests.acceptance.shop import HERE
from tests.testbed import Pod
from tests.testbed.manifests import Document, rate_limit_policy

RATE, BURST = 200, 50
TIMES = 5  # as much is offered
SECONDS = 30
OWN_RATE, OWN_BURST = 100, 20
POLITE = 80  # requests a second of who stays below its own limit


def _limit(what: str, rate: int, burst: int) -> Document:
    return {what: rate, "interval": "1s", "burst": burst}


def total() -> Document:
    rule = {"name": "all", "limit": _limit("requests", RATE, BURST)}
    return rate_limit_policy("shop", "limits", CATALOG, http={"rules": [rule]})


def per_account() -> Document:
    """Together they may use all that there is: a greedy caller could take it without a limit of its own."""
    each = {"name": "each", "per": "ServiceAccount", "limit": _limit("requests", OWN_RATE, OWN_BURST)}
    every = {"name": "all", "limit": _limit("requests", OWN_RATE + POLITE + OWN_BURST, BURST)}
    return rate_limit_policy("shop", "limits", CATALOG, http={"rules": [every, each]})


@dataclass(frozen=True)
class Granted:
    most_over: float  # in any window, more than rate x its length: at most the burst
    share: float  # of rate x SECONDS, after the burst is spent
    outcomes: Counter[str]
    served: int  # by the count of the server


def measured(found: Sequence[Answer], rate: int, served: int) -> Granted:
    granted = [one for one in found if one.status == 200]
    start = found[0].sent + NS  # the burst lasts less than a second at this load
    within = sum(start <= one.received < start + SECONDS * NS for one in granted)
    return Granted(most_over(granted, rate), within / (rate * SECONDS), outcomes(found), served)


def most_over(granted: Sequence[Answer], rate: int) -> float:
    """The largest excess, over all windows, of what was surely let through within over rate x its length."""
    period = NS / rate
    worst = 0.0
    ends: list[int] = []  # when those were answered that were sent in the window, sorted
    for one in sorted(granted, reverse=True):
        insort(ends, one.received)
        worst = max(worst, *(number - (end - one.sent) / period for number, end in enumerate(ends, 1)))
    return worst


# ---- requests ----


def greedy_alone(stand: Stand) -> Granted:
    [gauge] = stand.gauges
    found = stand.offered(stand.greedy, "-c", 16, "-rate", RATE * TIMES, "-for", f"{SECONDS + 2}s")
    return measured(found, RATE, gauge.state().arrived)


@dataclass(frozen=True)
class Shared:
    greedy: Granted
    polite: Counter[str]


def greedy_beside_polite(stand: Stand) -> Shared:
    """The polite caller asks all the time, and less than its limit."""
    length = ("-for", f"{SECONDS + 2}s")
    greedy = stand.offer(stand.greedy, "-c", 16, "-rate", OWN_RATE * TIMES * 2, *length)
    polite = stand.offer(stand.polite, "-c", 4, "-rate", POLITE, *length)
    found, others = finish(greedy), finish(polite)
    return Shared(measured(found, OWN_RATE, stand.gauges[0].state().arrived), outcomes(others))


# ---- connections ----


@dataclass(frozen=True)
class Connected:
    most_over: float
    share: float
    refused: int
    counted: int  # refusals, by the agent's metrics
    others: Counter[str]  # outcomes that are neither


def connections_policy() -> Document:
    return rate_limit_policy("shop", "limits", CATALOG, connections={"limit": _limit("connections", RATE, BURST)})


def connect_from_two_pods(stand: Stand) -> Connected:
    """Each pod connects one after the other: a connect() was over when the next began."""
    count = int(RATE * TIMES / 2 * (SECONDS + 2))
    clients = [_connector(stand, pod, count) for pod in (stand.greedy, stand.polite)]
    found = [one for client in clients for one in _connects(client.communicate(timeout=SECONDS * 4)[0])]
    refused = sum(one.reason == "ECONNREFUSED" for one in found)
    granted = measured(sorted(found), RATE, 0)
    counted = stand.agent.metrics().total("nodeagent_refused_connections_total", reason="rate-limited")
    others = Counter(one.reason for one in found if one.reason not in {"ok", "ECONNREFUSED"})
    return Connected(granted.most_over, granted.share, refused, int(counted), others)


def _connector(stand: Stand, pod: Pod, count: int) -> subprocess.Popen[str]:
    where = [stand.bed.vip(1), "80", str(count), str(RATE * TIMES / 2), "--lines"]
    argv = [sys.executable, "-S", str(HERE / "connector.py"), *where]
    process: subprocess.Popen[str] = stand.bed.popen(pod, argv, stdout=subprocess.PIPE, text=True)
    return process


def _connects(text: str) -> Iterator[Answer]:
    rows = [*lines(text), Line(math.inf, "", "", "")]
    for row, after in itertools.pairwise(rows):
        end = row.time + 1 if after.time == math.inf else after.time
        yield Answer(int(row.time * NS), int(end * NS), 200 if row.status == "ok" else 0, row.status)
