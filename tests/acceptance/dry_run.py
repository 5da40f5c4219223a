"""Acceptance of traffic 8: what policies in DryRun count is what they do once they are in force.

Each case runs the same requests twice, open-loop and without retries: under its policy in DryRun, by whose counter it
is judged, and in Enforce, judged by what the client got.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from tests.acceptance import in_force
from tests.acceptance.unsteady import NAME, TARGET, Flaky
from tests.testbed import manifests
from tests.testbed.agent import REPOSITORY
from tests.testbed.manifests import Document

Mode = str  # "DryRun" or "Enforce"


class Case(NamedTuple):
    policy: Callable[[Mode], Document]
    outcome: str  # what is counted in a dry run
    reason: str  # x-mesh-reason of who is refused
    path: str
    requests: int
    rate: int
    options: tuple[str, ...] = ()


def _authorization(mode: Mode) -> Document:
    closed = {"http": {"paths": [{"type": "PathPrefix", "value": "/-shut"}]}}
    policy = manifests.authorization_policy(
        "shop", "shut", "flaky", action="DENY", level="Application", rules=[closed]
    )
    policy["spec"]["mode"] = mode
    return policy


def _rate_limit(mode: Mode) -> Document:
    rule = {"name": "all", "limit": {"requests": 100, "interval": "1s", "burst": 50}}
    return manifests.rate_limit_policy("shop", "hundred", TARGET, mode=mode, http={"rules": [rule]})


def _traffic(**spec: Any) -> Callable[[Mode], Document]:
    return lambda mode: manifests.traffic_policy("shop", "trial", TARGET, mode=mode, **spec)


BUSY = ("/slow?ms=100", 3000, 250, ("-poisson",))  # 25 at a time on average
CASES = {
    "authorization": Case(_authorization, "would-deny", "denied", "/{-open|-open|-shut}/slow?ms=1", 1200, 200),
    "rate limit": Case(_rate_limit, "would-limit", "rate-limited", "/slow?ms=1", 3000, 300),
    "timeout": Case(
        _traffic(timeouts={"request": "200ms"}), "would-time-out", "request-timeout", "/slow?ms={20|20|400}", 1200, 120
    ),
    "parallel requests": Case(
        _traffic(circuitBreaker={"maxParallelRequests": 20}),
        "would-overflow",
        "circuit-breaker-max-parallel-requests",
        *BUSY,
    ),
    "connections": Case(
        _traffic(circuitBreaker={"maxConnections": 20}), "would-overflow", "circuit-breaker-max-connections", *BUSY
    ),
}


@dataclass(frozen=True)
class Compared:
    requests: int
    would: int  # refusals, in the dry run
    refused: int  # in Enforce
    not_200: int  # in the dry run
    others: int  # in Enforce, of other reasons

    @property
    def difference(self) -> float:
        return abs(self.would - self.refused) / self.refused


def compare(flaky: Flaky, case: Case) -> Compared:
    flaky.policies(case.policy("DryRun"))
    before = flaky.would(case.outcome)
    tried = _run(flaky, case)
    would = flaky.would(case.outcome) - before
    flaky.policies(case.policy("Enforce"))
    time.sleep(2)  # buckets fill up: a policy that is put in force has those that it had
    enforced = _run(flaky, case)
    refused = enforced[1][case.reason]
    return Compared(case.requests, would, refused, case.requests - tried[0]["200"], enforced[1].total() - refused)


def _run(flaky: Flaky, case: Case) -> tuple[Any, Any]:
    """(outcomes, reasons) of the client, once every request was counted."""
    before = flaky.counted()
    answers = flaky.ask(case.path, case.requests, "-rate", case.rate, *case.options)
    in_force.wait_until(lambda: flaky.counted() >= before + case.requests, 5, "every request was counted")
    return answers.outcomes, answers.reasons


# ---- outlier detection ----

AFTER = 2000  # ms from the reset until catalog-v2 fails
FAILING = f"/fail?status=500&only=catalog-v2&after={AFTER}ms"


@dataclass(frozen=True)
class Ejected:
    """`ms`: from the moment at which a pod began to fail to its first ejection."""

    pod: str
    ms: float
    others: int  # ejections beside that


def would_eject(flaky: Flaky, requests: int, rate: int) -> Ejected:
    """As `nodeagent observe` tells it."""
    rows = _observed(flaky, lambda: flaky.ask(FAILING, requests, "-rate", rate))
    assert len(rows) == requests
    first, *more = [row for row in rows if any(word.startswith("would-eject ") for word in row["would"])]
    pod = next(pod for pod in flaky.pods if pod.ipv4 == first["endpoint"].rpartition(":")[0])
    at = datetime.fromisoformat(first["time"]).timestamp() * 1000
    return Ejected(pod.name, at - flaky.seen().began[pod.name] - AFTER, len(more))


def _observed(flaky: Flaky, run: Callable[[], object]) -> list[dict[str, Any]]:
    """What `nodeagent observe` tells of the requests of `run`; the pods have forgotten what was before."""
    argv = flaky.shop.agent.cli_argv("observe", "-f", "--to", NAME, "-o", "json")
    told = flaky.shop.bed.home / "observed.json"
    with (
        told.open("w", encoding="utf-8") as out,
        subprocess.Popen(argv, stdout=out, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY) as watching,
    ):
        assert watching.stderr is not None
        assert "watching" in watching.stderr.readline()
        flaky.reset()
        run()
        time.sleep(1)  # the last ones are on their way
        watching.terminate()
    return [json.loads(row) for row in told.read_text(encoding="utf-8").splitlines()]


def ejected(flaky: Flaky, requests: int, rate: int) -> Ejected:
    """As the pods see it: who gets nothing any more, and since when."""
    flaky.reset()
    flaky.ask(FAILING, requests, "-rate", rate)
    last = flaky.seen().last
    over = max(last.values())
    out = [name for name, at in last.items() if at < over - 1000]
    assert out, f"no pod was ejected: {last}"
    return Ejected(out[0], last[out[0]] - AFTER, len(out) - 1)


def compare_ejections(flaky: Flaky, requests: int, rate: int) -> tuple[Ejected, Ejected]:
    """(in the dry run, in Enforce)."""
    policy = _traffic(outlierDetection={"consecutive5xxErrors": 5, "baseEjectionTime": "60s"})
    flaky.policies(policy("DryRun"))
    tried = would_eject(flaky, requests, rate)
    flaky.policies(policy("Enforce"))
    return tried, ejected(flaky, requests, rate)
