"""`python -m bench.changes`: how soon a change of one object is in force, and the longest stall of a worker's loop.

A real agent with one worker in a testbed, and manifests of a made-up cluster (bench.cluster).  Objects of each kind
are changed one after the other.  The figures are the agent's and the worker's own (`config_apply_seconds`,
`worker_loop_busy_seconds_peak`, `worker_loop_stall_seconds_peak`): reading the file, compiling, workers acknowledged,
maps written; without the time that the watcher waits for a file to settle.  With `--connections`, wrk loads the
worker meanwhile: then there is not a processor for everybody, and only busy tells what the worker did itself.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import cluster
from bench.errors import BenchError, ChildFailedError
from tests.testbed import Agent, Pod, Testbed, manifests
from tests.testbed.manifests import Document

GOAL_CHANGE = 0.1
GOAL_STALL = 0.01
READY_SECONDS = 600.0  # 10,000 pods are 10 MB of YAML
WAIT_SECONDS = 20.0
BETWEEN = 0.3  # seconds: the watcher's settling, and what the agent does after a change is in force
ALONE = range(20)

KINDS: dict[str, Callable[[int], Document]] = {
    "HTTPRoute": lambda turn: cluster.route(0, weight=turn % 100),
    "AuthorizationPolicy": lambda turn: cluster.policy(0, method="PUT" if turn % 2 else "PATCH"),
    "EndpointSlice": lambda turn: cluster.endpoint_slice(4, ready=turn % cluster.EACH + 1),
    "Pod": lambda turn: cluster.pod(5, 0, account=f"other{turn}"),
    "Service": lambda turn: cluster.service(6, port=1000 + turn),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds."""

    kind: str
    changes: list[float]
    busy: float  # the worker's longest piece of work up to the end of these changes, in processor time
    stall: float  # and in time


def change_one(bed: Testbed, agent: Agent, document: Document) -> float:
    """Seconds from when the agent noticed the change until it was in force.

    Nothing is asked of the agent before it is likely to be: its answers would take the time of the change.
    """
    generation = agent.metrics().total("nodeagent_config_generation_in_force")
    cluster.write_alone(bed.manifests, document)
    return _wait_for(agent, generation)


def _wait_for(agent: Agent, generation: float) -> float:
    """Seconds that the change took."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        time.sleep(BETWEEN)
        found = agent.metrics()
        if found.total("nodeagent_config_generation_in_force") > generation:
            return found.total("nodeagent_config_apply_seconds")
        if time.monotonic() > end:
            raise ChildFailedError(f"a change was not in force after {WAIT_SECONDS} s:{agent.tail()}")


def _change(bed: Testbed, agent: Agent, kind: str, times: int) -> Result:
    took = [change_one(bed, agent, KINDS[kind](turn)) for turn in range(1, times + 1)]
    return Result(kind, took, *_stalls(agent))


def _stalls(agent: Agent) -> tuple[float, float]:
    time.sleep(1.5)  # a worker says how it does once a second
    found = agent.metrics()
    busy, stall = (found.total(f"nodeagent_worker_loop_{name}_seconds_peak") for name in ("busy", "stall"))
    return busy, stall


@contextmanager
def scene(services: int) -> Iterator[tuple[Testbed, Agent, Pod]]:
    with Testbed() as bed:
        web = bed.add_pod("shop", "web", service_account="web", workload="web")
        server = bed.add_pod("shop", "server", service_account="server", workload="server")
        bed.serve(server)
        bed.manifests.write("00-shop.yaml", manifests.namespace("shop"), *bed.pod_documents())
        rules = [{"backendRefs": [manifests.backend("server", 1)]}]
        bed.manifests.write(
            "10-server.yaml",
            manifests.service("shop", "server", [bed.vip(1)]),
            manifests.endpoint_slice("shop", "server", [server.ipv4]),
            manifests.http_route("shop", "server", "server", rules),
        )
        cluster.write(bed.manifests, services, ALONE)
        with bed.agent("--workers", "1").start(READY_SECONDS) as agent:
            yield bed, agent, web


@contextmanager
def _load(bed: Testbed, web: Pod, connections: int) -> Iterator[None]:
    if not connections:
        yield
        return
    argv = ["wrk", "-t1", f"-c{connections}", "-d3600s", f"http://{bed.vip(1)}/"]
    process = bed.popen(web, argv, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()


def _measure(options: argparse.Namespace) -> Iterator[Result]:
    with scene(options.endpoints // cluster.EACH) as (bed, agent, web), _load(bed, web, options.connections):
        first = agent.metrics().total("nodeagent_config_apply_seconds")
        yield Result("(start)", [first], *_stalls(agent))
        for kind in options.kinds.split(",") if options.kinds else KINDS:
            yield _change(bed, agent, kind, options.changes)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", default="", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--connections", type=int, default=0, help="of wrk, which loads the worker meanwhile")
    options = parser.parse_args()
    print(f"{options.endpoints} endpoints, {options.connections} connections of load; milliseconds")
    print(f"{'changed':20}  median   worst   worker's longest: busy, stall so far")
    try:
        for one in _measure(options):
            median, worst = statistics.median(one.changes), max(one.changes)
            figures = " ".join(f"{value * 1e3:7.1f}" for value in (median, worst, one.busy, one.stall))
            print(f"{one.kind:20} {figures}", flush=True)
    except BenchError as error:
        print(f"bench.changes: {error}", file=sys.stderr)
        return 1
    print(f"goals: a change in {GOAL_CHANGE * 1e3:.0f}, a stall below {GOAL_STALL * 1e3:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
