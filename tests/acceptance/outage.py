"""Acceptance 6, the outage replayed: one tenant floods a stalled upstream through the worker that another depends on.

`batch` has 5,000 requests with 64 KB bodies at a time for `archive`, which reads nothing; `till` calls `bank` 200
times a second.  The worker and the broker, which makes its upstream sockets, have 64 MB for memory and as many for TCP
buffers.  In the control the same flood, from a pod outside of the mesh, goes to `archive` past the mesh; the victim's
way is the same.  `python -m tests.acceptance.outage` (make outage) shows every run, and the same through Envoy.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench import envoy
from nodeagent.core.bounds import MIB
from tests.acceptance import envoy_shared
from tests.acceptance.figures import show
from tests.acceptance.tenants import ARCHIVE, BANK, PORT, Node, open_node
from tests.testbed import Pod
from tests.testbed.caps import MemoryCap

MEMORY = 64 * MIB
RATE, SECONDS = 200, 10
FLOOD = 5000
EVERY, PATIENCE = 5.0, 4.8
"""Seconds: each of the flood's clients tries once in so long, all at the same time, and waits so long for an answer.
So as many requests are offered to a mesh that refuses them at once as to an upstream that never answers."""
BODY = 64 * 1024
FLOOD_SHARE = 0.3
"""Of one processor, for what makes the flood."""
WARM_UP = 3.0
ROUNDS, MORE_ROUNDS = 5, 15
NOISE = 0.05  # what the two controls of a round may differ; more rounds while they differ more


@dataclass
class Run:
    """What the victim and the flood saw in one run."""

    victim: dict[str, Any]
    flood: dict[str, Any] = field(default_factory=dict)

    @property
    def p99(self) -> float:
        """Microseconds."""
        return float(self.victim["p99_us"])

    @property
    def success(self) -> float:
        """Share of the victim's requests that were answered 200."""
        return float(self.victim["codes"].get("200", 0) / max(1, self.victim["sent"]))

    def __str__(self) -> str:
        met = {**self.flood["reasons"], **self.flood["errors"]}
        return (
            f"{self.success:.2%}, p50 {self.victim['p50_us']} us, p99 {self.victim['p99_us']} us; the flood met {met}"
        )


def beside(node: Node, pod: Pod, address: str, port: int, victim: tuple[str, int]) -> Run:
    """The victim's calls while `pod` floods `address`."""
    options = ["-method", "POST", "-body", str(BODY), "-c", str(FLOOD), "-every", f"{EVERY}s"]
    options += ["-timeout", f"{PATIENCE}s", "-for", f"{WARM_UP + SECONDS:.0f}s"]
    flood = node.load(pod, address, port, *options)
    time.sleep(WARM_UP)
    run = Run(node.victim(*victim, RATE, SECONDS))
    run.flood = json.loads(flood.communicate(timeout=60)[0])
    return run


def through_mesh(node: Node) -> Run:
    return beside(node, node.batch, node.bed.vip(ARCHIVE), 80, (node.bed.vip(BANK), 80))


def past_mesh(node: Node) -> Run:
    return beside(node, node.outsider, node.archive.ipv4, PORT, (node.bed.vip(BANK), 80))


@dataclass
class Outage:
    controls: list[Run]
    meshed: list[Run]
    again: list[Run]  # the controls after them
    refused: Counter[str]  # requests of the flood, by reason, as the mesh counted them
    reset: int  # connections of the flood
    oom_kills: int
    deaths: int  # of workers
    peak: tuple[int, int]  # bytes of memory, of TCP buffers

    @property
    def ratio(self) -> float:
        return ratio(self.controls, self.meshed, self.again)

    @property
    def control(self) -> float:
        """A/A."""
        return control(self.controls, self.again)

    def __str__(self) -> str:
        memory, tcp = (size / MIB for size in self.peak)
        p99s = [statistics.median(run.p99 for run in runs) for runs in (self.meshed, self.controls + self.again)]
        return (
            f"victim {min(run.success for run in self.meshed):.2%} answered in {len(self.meshed)} rounds; p99 "
            f"{p99s[0]:.0f} us beside a flood through the mesh, {p99s[1]:.0f} us beside one past it: {self.ratio:.2f} "
            f"(A/A {self.control:.2f}); refused {dict(self.refused)}, reset {self.reset}; at most {memory:.0f} MB, and "
            f"{tcp:.0f} MB of TCP buffers; {self.oom_kills} OOM kills"
        )


def ratio(controls: list[Run], meshed: list[Run], again: list[Run]) -> float:
    """Of the victim's p99s in a round: flood through the mesh / flood past it, before and after.  The median."""
    rounds = zip(controls, meshed, again, strict=True)
    return statistics.median(2 * mesh.p99 / (before.p99 + after.p99) for before, mesh, after in rounds)


def control(controls: list[Run], again: list[Run]) -> float:
    return statistics.median(after.p99 / before.p99 for before, after in zip(controls, again, strict=True))


def replay(node: Node, rounds: int = ROUNDS, most: int = MORE_ROUNDS) -> Outage:
    assert node.memory is not None
    node.victim(node.bed.vip(BANK), 80, RATE, 2)  # warm
    deaths = _deaths(node)
    controls: list[Run] = []
    meshed: list[Run] = []
    again: list[Run] = []
    while len(meshed) < rounds or (len(meshed) < most and abs(control(controls, again) - 1) > NOISE):
        controls.append(past_mesh(node))
        meshed.append(through_mesh(node))
        again.append(past_mesh(node))
    stats = node.worker_stats()
    reset = int(stats["reset_over_limit"] + stats["reset_over_pod_limit"])
    deaths = _deaths(node) - deaths
    return Outage(controls, meshed, again, refusals(node), reset, node.memory.oom_kills, deaths, node.memory.peak)


def _deaths(node: Node) -> int:
    return int(node.agent.metrics().total("nodeagent_worker_deaths_total"))


def refusals(node: Node) -> Counter[str]:
    counted: Counter[str] = Counter()
    for sample in node.agent.metrics().select("nodeagent_requests_total", source_workload="batch", response_code="503"):
        counted[sample.labels["reason"]] += int(sample.value)
    return counted


def through_envoy(node: Node) -> tuple[Run, int, bool]:
    """The same through one Envoy with its defaults: (run, OOM kills, whether it lived)."""
    with MemoryCap(f"{node.bed.tag}-envoy", MEMORY) as memory:
        process = envoy_shared.start(node.bed, node.proxy, (node.bank, node.archive), PORT, memory)
        run = beside(node, node.outsider, node.proxy.ipv4, envoy_shared.SECOND, (node.proxy.ipv4, envoy_shared.FIRST))
        lived = process.poll() is None
        process.kill()
        process.wait()
        return run, memory.oom_kills, lived


def told_of_envoy(run: Run, oom_kills: int, lived: bool) -> str:
    end = "it lived" if lived else "it died"
    return f"Envoy {envoy.version()}, default settings: victim {run}; {oom_kills} OOM kills, {end}"


def main() -> None:
    with open_node(FLOOD_SHARE, MEMORY) as node:
        outage = replay(node)
        for before, mesh, after in zip(outage.controls, outage.meshed, outage.again, strict=True):
            show(f"past: {before}\n          mesh: {mesh}\n          past: {after}")
        show(str(outage))
        show(told_of_envoy(*through_envoy(node)))


if __name__ == "__main__":
    main()
