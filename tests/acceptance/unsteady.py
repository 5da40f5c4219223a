"""A Service of the shop whose pods misbehave as asked (tests/peers/unsteady), and an independent client for it.

`flaky` (VIP 11) is served by both pods.  Its route has two rules: paths below /-free, whose `timeouts.request` is 0s,
and all others.  What else is in force is a TrafficPolicy of the test's.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from tests import peers
from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.shop import Shop
from tests.testbed import Pod, manifests
from tests.testbed.manifests import Document

VIP = 11
PORT = 8500
TARGET = {"group": "", "kind": "Service", "name": "flaky"}
NAME = "shop/flaky:80"


class Row(NamedTuple):
    """One request: ms from the client's start, ms that it took; `outcome` is a status or what went wrong."""

    sent: float
    took: float
    outcome: str
    reason: str


@dataclass(frozen=True)
class Answers:
    rows: Sequence[Row]

    @cached_property
    def outcomes(self) -> Counter[str]:
        """By status, or "truncated", "reset", ..."""
        return Counter(row.outcome for row in self.rows)

    @cached_property
    def reasons(self) -> Counter[str]:
        return Counter(row.reason for row in self.rows if row.reason != "-")

    @property
    def share_ok(self) -> float:
        return self.outcomes["200"] / len(self.rows)

    @property
    def times(self) -> tuple[float, float]:
        """The shortest and the longest, ms."""
        took = [row.took for row in self.rows]
        return min(took), max(took)


@dataclass(frozen=True)
class Seen:
    """What the servers saw since they were last reset."""

    requests: Counter[str]  # by "METHOD /path"
    abandoned: int  # connections that the proxy ended before an answer was complete
    arrivals: dict[str, list[int]]  # ms of one clock, by the request's id
    began: dict[str, int]  # of each pod, when that was, ms of the epoch
    last: dict[str, int]  # and ms after that, the last request that it got


class Flaky:
    """The Service and its pods."""

    def __init__(self, shop: Shop) -> None:
        """The servers run, the Service and its route are in force, and no policy."""
        self.shop = shop
        self.pods = (shop.v1, shop.v2)
        self._numbers = itertools.count(1)
        self._servers: dict[str, subprocess.Popen[Any]] = {}
        for pod in self.pods:
            self.begin(pod)
        backends = [manifests.backend("flaky", 1)]
        path = {"type": "PathPrefix", "value": "/-free"}
        free: Document = {"matches": [{"path": path}], "timeouts": {"request": "0s"}}
        rules = [{**free, "backendRefs": backends}, {"backendRefs": backends}]
        documents = shops.service(shop.bed, VIP, "flaky", self.pods, target=PORT)
        route = manifests.http_route("shop", "flaky", "flaky", rules)
        in_force.apply(shop, lambda: shop.bed.manifests.write("60-flaky.yaml", *documents, route))

    def begin(self, pod: Pod) -> None:
        """Start a pod's server."""
        argv = [str(peers.build("unsteady")), "-listen", f":{PORT}", "-name", pod.name]
        argv += ["-seed", str(self.pods.index(pod))]
        bed = self.shop.bed
        self._servers[pod.name] = bed.popen(pod, argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        bed.wait_listening(pod, PORT)

    def end(self, pod: Pod) -> None:
        """From here on its connections are refused."""
        server = self._servers.pop(pod.name)
        server.kill()
        server.wait()

    def policy(self, **spec: Any) -> None:
        """Put one TrafficPolicy for the Service in force, in place of what was before.

        It has a name of its own each time, and with that a budget and buckets that nobody has used.
        """
        self.policies(manifests.traffic_policy("shop", f"flaky-{next(self._numbers)}", TARGET, **spec))

    def policies(self, *documents: Document) -> None:
        in_force.apply(self.shop, lambda: self.shop.bed.manifests.write("70-policy.yaml", *documents))

    def ask(self, path: str, count: int, *options: object) -> Answers:
        """Runs openloop (tests/peers/openloop) in web."""
        url = f"http://{self.shop.bed.vip(VIP)}{path}"
        argv = [str(peers.build("openloop")), "-url", url, "-n", str(count), *map(str, options)]
        run = self.shop.bed.run(self.shop.web, argv, timeout=300)
        assert run.returncode == 0, run.stderr
        rows = [row.split() for row in run.stdout.splitlines()]
        assert len(rows) == count
        return Answers([Row(float(sent), float(took), outcome, reason) for sent, took, outcome, reason in rows])

    def reset(self) -> None:
        """The servers forget what they saw."""
        for pod in self.pods:
            self._tell(pod, "/reset")

    def seen(self) -> Seen:
        requests: Counter[str] = Counter()
        abandoned = 0
        arrivals: dict[str, list[int]] = {}
        began: dict[str, int] = {}
        last: dict[str, int] = {}
        for pod in self.pods:
            said = json.loads(self._tell(pod, "/seen"))
            requests.update(said["requests"])
            abandoned += said["abandoned"]
            began[pod.name], last[pod.name] = said["began"], said["last"]
            for name, times in said["arrivals"].items():
                arrivals[name] = sorted([*arrivals.get(name, []), *times])
        return Seen(requests, abandoned, arrivals, began, last)

    def counted(self, **labels: str) -> int:
        """Requests to the Service, by the agent's metrics."""
        return int(self.shop.agent.metrics().total("nodeagent_requests_total", destination_service=NAME, **labels))

    def would(self, outcome: str) -> int:
        """What policies in DryRun would have done to them."""
        metrics = self.shop.agent.metrics()
        return int(metrics.total("nodeagent_dry_run_total", destination_service=NAME, outcome=outcome))

    def _tell(self, pod: Pod, path: str) -> str:
        """By a pod that is not enrolled."""
        argv = ["curl", "-sS", "--fail", "-m", "5", f"http://{pod.ipv4}:{PORT}{path}"]
        run = self.shop.bed.run(self.shop.plain, argv)
        assert run.returncode == 0, run.stderr
        return run.stdout


@contextmanager
def open_flaky(*, workers: int = 2) -> Iterator[Flaky]:
    with shops.open_shop(workers=workers) as shop:
        yield Flaky(shop)
