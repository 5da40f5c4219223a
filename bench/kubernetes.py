"""`python -m bench.kubernetes`: what the agent costs with a big cluster on a real API server.

Root.  Uses the cluster that $CLUSTER names (tests/cluster), or brings one up; fills it with the objects of
`bench.kube_objects`; starts the agent of its first node, with one worker; removes what it made.  Printed and kept in
bench/results:

* seconds from the agent's start to its first configuration in force, with nothing remembered of an earlier run;
* the peak of memory of all its processes, by their control group, and the kernel's part of it;
* processor time while nothing changes and at one change per second, of each kind: as on all nodes but one, and where
  the agent is elected, too, to write the status of all objects;
* how long a change takes from the API server's write to in force, while wrk loads the node's worker.

The write is somewhere between the request and its answer; both times are told.  Processor time is what to trust where
others work on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import cluster as made_up
from bench import kube_fill, kube_node, kube_objects, report
from bench.errors import BenchError, ChildFailedError
from bench.kube_node import Agent, Cost
from nodeagent.kernel import setns
from nodeagent.kube.client import Client
from tests.cluster import gateway_api, paths
from tests.cluster.box import NETNS, BoxError
from tests.cluster.cluster import Cluster, ClusterError, for_tests
from tests.testbed.manifests import Document
from tests.testbed.shell import CommandError

GOAL_START, GOAL_PEAK_MB, GOAL_CPU, GOAL_CHANGE = 10.0, 200.0, 0.01, 0.1
START_SECONDS = 120.0
ELECTION_SECONDS = 300.0
STEADY_SECONDS = 10.0
PAUSE = 0.3  # seconds between a change under load and the question when it was in force
GENERATION = "config_generation_in_force"

KINDS: dict[str, tuple[Callable[[int, int], Document], int]] = {
    "HTTPRoute": (kube_objects.route, 0),
    "AuthorizationPolicy": (kube_objects.authorization, 0),
    "TrafficPolicy": (kube_objects.traffic, 6),
    "RateLimitPolicy": (kube_objects.limit, 8),
    "EndpointSlice": (kube_objects.endpoint_slice, 0),
}
"""The object in a turn, and the last digit of the numbers that have one."""


@dataclass(frozen=True, slots=True)
class Steady:
    """At one change per second.  `processor`: of all processes, in seconds for a change and the second around it."""

    kind: str
    changes: list[float]  # seconds that the agent says they took
    processor: list[float]


@dataclass(frozen=True, slots=True)
class Change:
    """Seconds until it was in force, since the API server was asked and since it answered."""

    kind: str
    asked: float
    answered: float


class Changes:
    """Changes objects, one after the other, each to something it never was."""

    def __init__(self, client: Client, services: int) -> None:
        self._client, self._services = client, services
        self._turn = int(time.time()) % 50_000  # no object may be as an earlier run left it

    async def next(self, kind: str) -> tuple[float, float]:
        """Unix time of the request and of its answer."""
        made, digit = KINDS[kind]
        self._turn += 1
        number = self._turn * 370 % (self._services - self._services % 10) + digit
        document = made(number, self._turn)
        asked = time.time()
        await kube_fill.patch(self._client, document)
        return asked, time.time()


async def steady(agent: Agent, cost: Cost, changes: Changes, kind: str, times: int) -> Steady:
    took, spent, before = [], [], agent.metric(GENERATION)
    for _ in range(times):
        await asyncio.sleep(0.2)  # what was asked of the agent is over
        since, due = cost.processor, time.monotonic() + 1
        await changes.next(kind)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        spent.append(cost.processor - since)
        if (now := agent.metric(GENERATION)) > before:
            took.append(agent.metric("config_apply_seconds"))
        before = now
    return Steady(kind, took, spent)


async def all_kinds(agent: Agent, cost: Cost, changes: Changes, times: int) -> list[dict[str, Any]]:
    found = []
    for kind in KINDS:
        found.append(asdict(one := await steady(agent, cost, changes, kind, times)))
        _print_steady(one, cost)
    return found


async def _all_written(agent: Agent) -> None:
    """Until the agent is elected and has nothing to write any more, at two looks: at first it knows of nothing."""
    end, quiet = time.monotonic() + ELECTION_SECONDS, 0
    while quiet < 2:
        is_done = agent.metric("status_writer") and not agent.metric("status_waiting")
        quiet = quiet + 1 if is_done else 0
        if time.monotonic() > end:
            raise ChildFailedError(f"the status of all objects was not written within {ELECTION_SECONDS:.0f} s")
        await asyncio.sleep(2)


async def loaded(agent: Agent, changes: Changes, times: int) -> list[Change]:
    """One change after the other, all kinds in turn.  One that came in force with another's is left out."""
    found: list[Change] = []
    kinds = list(KINDS)
    for turn in range(times):
        before, kind = agent.metric(GENERATION), kinds[turn % len(kinds)]
        asked, answered = await changes.next(kind)
        await asyncio.sleep(PAUSE)
        since = 0.0
        while since < asked:
            since = agent.metric("config_in_force_timestamp_seconds")
            if time.time() - asked > START_SECONDS:
                raise ChildFailedError(f"a change of {kind} was not in force after {START_SECONDS} s")
        if agent.metric(GENERATION) == before + 1:
            found.append(Change(kind, since - asked, since - answered))
    return found


async def measure(cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    cost, client = Cost(cluster.nodes[0].box.name), Client(cluster.kubeconfig)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        stack.enter_context(_at_control_plane(cluster))
        began = time.monotonic()
        await kube_fill.fill(client, options.services)
        print(f"filled in {time.monotonic() - began:.0f} s; load average {os.getloadavg()[0]:.1f}", flush=True)
        await asyncio.sleep(options.settle)
        stack.enter_context(cost.measured())
        kube_node.another_is_elected(cluster)
        changes, found = Changes(client, options.services), dict[str, Any]()
        agent = stack.enter_context(kube_node.agent(cluster, cost))
        found["start"] = agent.until_in_force(START_SECONDS)
        print(f"start to in force: {found['start']:.1f} s, {cost.processor:.1f} s of processor", flush=True)
        await asyncio.sleep(STEADY_SECONDS)
        since = cost.processor
        await asyncio.sleep(STEADY_SECONDS)
        found |= {"idle": (cost.processor - since) / STEADY_SECONDS, "peak_start_mb": cost.peak_mb}
        print(f"idle: {found['idle']:.2%} of a processor; {_memory(cost)}", flush=True)
        found["steady"] = await all_kinds(agent, cost, changes, options.changes)
        with kube_node.load(cluster):
            await asyncio.sleep(2)
            under_load = await loaded(agent, changes, options.loaded)
            found["loaded"] = [asdict(one) for one in under_load]
            _print_loaded(under_load)
        kube_node.one_is_elected(cluster)
        await _all_written(agent)
        await asyncio.sleep(options.settle)  # the API server has as much to do with 2,000 writes as after filling
        print("where the status of all objects is written:")
        found["steady_elected"] = await all_kinds(agent, cost, changes, options.changes)
        found |= {"peak_mb": cost.peak_mb, "load_average": os.getloadavg()}
        print(_memory(cost))
    return found


def _memory(cost: Cost) -> str:
    return f"peak {cost.peak_mb:.0f} MB, now {cost.used_mb:.0f} MB, {cost.kernel_mb:.0f} of them the kernel's"


def _print_steady(one: Steady, cost: Cost) -> None:
    slow, worst = statistics.median(one.changes or [0]), max(one.changes or [0])
    spent, mean = statistics.median(one.processor), statistics.fmean(one.processor)
    print(f"{one.kind:20} {len(one.changes)} changes: median {slow * 1e3:.0f}, worst {worst * 1e3:.0f} ms;", end=" ")
    print(f"median {spent:.2%}, mean {mean:.2%} of a CPU at 1/s; peak {cost.peak_mb:.0f} MB", flush=True)


def _print_loaded(changes: list[Change]) -> None:
    for what, values in (
        ("asked", [one.asked for one in changes]),
        ("answered", [one.answered for one in changes]),
    ):
        figures = " ".join(f"{name} {value * 1e3:.0f}" for name, value in quantiles(values).items())
        print(f"{len(values)} changes under load, from {what} to in force, ms: {figures}", flush=True)


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p99 and max: values that occurred.  All 0 if there is none."""
    ordered = sorted(values) or [0.0]
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[-(len(ordered) // 100) - 1], "max": ordered[-1]}


@contextlib.contextmanager
def _at_control_plane(cluster: Cluster) -> Iterator[None]:
    """Where the API server and the nodes can be reached."""
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(NETNS / cluster.control.box.name, os.O_RDONLY)
    try:
        with setns.inside(there, home):
            yield
    finally:
        os.close(home)
        os.close(there)


@contextlib.contextmanager
def filled(cluster: Cluster, *, keep: bool) -> Iterator[None]:
    """The definitions and the real pods; with `keep`, all objects stay, and the next run need not make them."""
    gateway_api.install(cluster)
    cluster.kubectl("apply", "--server-side", "-k", str(paths.REPOSITORY / "daemonset" / "crds"))
    try:
        kube_node.start_pods(cluster)
        yield
    finally:
        if not keep:
            _remove(cluster)


def _remove(cluster: Cluster) -> None:
    names = [made_up.namespace(number) for number in range(kube_objects.NAMESPACES)]
    cluster.kubectl("delete", "namespace", kube_node.NAMESPACE, *names, "--ignore-not-found", "--timeout=300s")
    cluster.kubectl("delete", "nodes", "-l", kube_objects.FAKE, "--ignore-not-found")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--services", type=int, default=1000, help="each with ten pods and two routes or policies")
    parser.add_argument("--changes", type=int, default=20, help="of each kind, one per second")
    parser.add_argument("--loaded", type=int, default=200, help="changes of any kind, while wrk runs")
    parser.add_argument("--settle", type=float, default=30, help="seconds of rest after many writes")
    parser.add_argument("--keep", action="store_true", help="leave the objects on the cluster")
    options = parser.parse_args()
    try:
        with for_tests(1) as cluster, filled(cluster, keep=options.keep):
            found = asyncio.run(measure(cluster, options))
    except (BenchError, BoxError, ClusterError, CommandError) as error:
        print(f"bench.kubernetes: {error}", file=sys.stderr)
        return 1
    print(f"goals: start {GOAL_START:.0f} s, {GOAL_CHANGE * 1e3:.0f} ms, {GOAL_CPU:.0%}, {GOAL_PEAK_MB:.0f} MB")
    print(f"all figures: {_kept(found)}")
    return 0


def _kept(found: dict[str, Any]) -> Path:
    report.RESULTS.mkdir(exist_ok=True)
    path = report.RESULTS / f"kubernetes-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
