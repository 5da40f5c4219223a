"""Acceptance 7: a pod with 500 connections of small requests and 90 headers, and a polite pod on the same worker."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import Any

from tests.acceptance.tenants import BANK, SHELF, Node

RATE, SECONDS = 100, 10
CONNECTIONS, HEADERS = 500, 90
LOAD_SHARE = 0.9
"""Of one processor, for what makes the greedy pod's requests: more than the worker answers."""
WARM_UP = 2.0
ROUNDS, MORE_ROUNDS = 5, 15
NOISE = 0.1  # what two quiet runs of a round may differ; more rounds while they differ more


@dataclass
class Beside:
    """Of each round: the polite pod's p99 when it is quiet, beside the greedy pod, and quiet again; microseconds."""

    quiet: list[float]
    busy: list[float]
    again: list[float]
    failed: int  # of the polite pod's requests, of all runs
    greedy_rps: float  # answers 200, the median

    @property
    def ratio(self) -> float:
        rounds = zip(self.quiet, self.busy, self.again, strict=True)
        return statistics.median(2 * busy / (before + after) for before, busy, after in rounds)

    @property
    def control(self) -> float:
        """A/A."""
        return statistics.median(after / before for before, after in zip(self.quiet, self.again, strict=True))

    def __str__(self) -> str:
        quiet, busy = statistics.median(self.quiet + self.again), statistics.median(self.busy)
        return (
            f"p99 of {RATE} requests/s: quiet {quiet:.0f} us, beside {CONNECTIONS} connections {busy:.0f} us: "
            f"{self.ratio:.2f} (A/A {self.control:.2f}, {len(self.busy)} rounds); {self.failed} failed; "
            f"the greedy pod got {self.greedy_rps:.0f} answers/s"
        )


def measure(node: Node, rounds: int = ROUNDS, most: int = MORE_ROUNDS) -> Beside:
    found = Beside([], [], [], 0, 0.0)
    rates: list[float] = []
    polite(node, found)  # warm
    while len(found.busy) < rounds or (len(found.busy) < most and abs(found.control - 1) > NOISE):
        found.quiet.append(polite(node, found))
        p99, greedy = beside_greedy(node, found)
        found.busy.append(p99)
        rates.append(greedy["codes"].get("200", 0) / greedy["seconds"])
        found.again.append(polite(node, found))
    found.greedy_rps = statistics.median(rates)
    return found


def polite(node: Node, found: Beside) -> float:
    """Its p99."""
    run = node.victim(node.bed.vip(BANK), 80, RATE, SECONDS)
    found.failed += run["sent"] - run["codes"].get("200", 0)
    return float(run["p99_us"])


def beside_greedy(node: Node, found: Beside) -> tuple[float, dict[str, Any]]:
    options = ["-c", str(CONNECTIONS), "-headers", str(HEADERS), "-for", f"{WARM_UP + SECONDS:.0f}s"]
    greedy = node.load(node.batch, node.bed.vip(SHELF), 80, *options)
    time.sleep(WARM_UP)
    p99 = polite(node, found)
    return p99, json.loads(greedy.communicate(timeout=60)[0])
