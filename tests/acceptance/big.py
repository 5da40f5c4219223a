"""The speed of changes: how soon one object of a big configuration is in force, and what the worker does meanwhile.

A made-up cluster (bench.cluster) and one worker, which forwards 200 requests a second all the time.  The times are the
agent's own, from when it notices a file; that is some milliseconds after the file is complete (config/settling.py).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import changes, cluster, cpu
from tests import peers
from tests.acceptance.figures import percentile
from tests.testbed import Agent, Pod, Testbed
from tests.testbed.manifests import Document

RATE = 200
SETTLE_SECONDS = 65.0  # until what a worker says of stalls is of this round alone (`proxy.stalls.WINDOW`, twice)
PER_CHANGE = 1.0  # seconds at most, as a rule: only the load's length depends on it


@dataclass(frozen=True)
class Changed:
    """Milliseconds: changes from being noticed until every worker and the kernel have them.

    `busy`, `stall`: the worker's longest piece of work meanwhile, in processor time, and as time.
    """

    by_kind: dict[str, list[float]]
    busy: float
    stall: float
    failed: int  # requests with another answer than 200
    others: float  # share of the machine's processors that went to processes that are not ours

    @property
    def slowest(self) -> float:
        """Of the kinds, by their medians."""
        return max(map(statistics.median, self.by_kind.values()))

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {statistics.median(took):.0f}" for kind, took in self.by_kind.items())
        everything = [took for kind in self.by_kind.values() for took in kind]
        return (
            f"medians in ms: {kinds}; of all p90 {percentile(everything, 0.9):.0f}, worst {max(everything):.0f}; the "
            f"loop's longest piece: {self.busy:.1f} of processor time, {self.stall:.1f} of time; "
            f"{self.others:.0%} of the processors went to others"
        )


@contextmanager
def open_big(endpoints: int) -> Iterator[Big]:
    with changes.scene(endpoints // cluster.EACH) as (bed, agent, web):
        yield Big(bed, agent, web)


class Big:
    """One agent with a configuration of so many endpoints."""

    def __init__(self, bed: Testbed, agent: Agent, web: Pod) -> None:
        self._bed, self._agent, self._web = bed, agent, web
        self._turn = 0

    def change_objects(self, times: int) -> Changed:
        """Each kind of object so many times, one change after the other, under load."""
        load = self._load(SETTLE_SECONDS + len(changes.KINDS) * times * PER_CHANGE)
        start, all_before, ours_before = time.monotonic(), cpu.used_by_machine(), self._ours()
        time.sleep(SETTLE_SECONDS)
        took = {kind: [self._change(make) for _ in range(times)] for kind, make in changes.KINDS.items()}
        busy_all = sum(cpu.used_by_machine()) - sum(all_before)
        others = (busy_all - (self._ours() - ours_before)) / (time.monotonic() - start) / (os.cpu_count() or 1)
        time.sleep(1.5)  # a worker says how it does once a second
        found = self._agent.metrics()
        busy, stall = (found.total(f"nodeagent_worker_loop_{name}_seconds") * 1000 for name in ("busy", "stall"))
        text, _ = load.communicate(timeout=300)
        failed = sum(line.split()[2] != "200" for line in text.splitlines())
        return Changed(took, busy, stall, failed, max(0.0, others))

    def _load(self, seconds: float) -> subprocess.Popen[str]:
        argv = [str(peers.build("openloop")), "-url", f"http://{self._bed.vip(1)}/"]
        argv += ["-rate", str(RATE), "-n", str(int(RATE * seconds))]
        process: subprocess.Popen[str] = self._bed.popen(self._web, argv, stdout=subprocess.PIPE, text=True)
        return process

    def _ours(self) -> float:
        """Processor seconds of this process and all that it started and that still lives."""
        return cpu.used_by(cpu.tree(os.getpid()))

    def _change(self, make: Callable[[int], Document]) -> float:
        self._turn += 1
        return changes.change_one(self._bed, self._agent, make(self._turn)) * 1000
