"""What the agent knows of itself, as metric readings: gauges of workers, configuration, broker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodeagent.agent.worker import Worker
from nodeagent.config.source import CURRENT, Freshness, KindState
from nodeagent.metrics.collector import Reading

HELP = {
    "accepted": "Connections a worker accepted.",
    "requests": "Requests a worker answered or forwarded since it started.",
    "audits": "Requests that an AUDIT policy matched.",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What the API server was told.  `writer`: this agent is the one that writes the status of objects."""

    writer: bool = False
    waiting: int = 0
    statuses: int = 0
    statuses_conflicting: int = 0
    statuses_failed: int = 0
    nodes: int = 0
    nodes_failed: int = 0
    events: int = 0
    events_failed: int = 0
    events_left_out: int = 0


@dataclass(frozen=True, slots=True)
class NodeState:
    """What of the facts a MeshNode tells, which is asked for every few seconds."""

    attached: bool
    bypass: bool
    pods: int
    pods_failed: int
    generation: int
    in_force: int
    source: Freshness


@dataclass(frozen=True, slots=True)
class Facts:
    """Plain values, gathered on the loop: the maps that some come from are used there only."""

    version: str
    generation: int
    in_force: int
    config_errors: int
    pods: int
    pods_failed: int
    attached: bool
    bypass: bool
    worker_deaths: int
    workers_hung: int
    broker_deaths: int
    broker_errors: int
    events_lost: int
    beats: dict[int, float]  # worker -> seconds of CLOCK_MONOTONIC
    pods_found: int = 0
    pods_refused: int = 0
    pods_waiting: int = 0
    settling_errors: int = 0
    canary_failures: int = 0
    apply_seconds: float = 0.0
    in_force_since: float = 0.0  # Unix time
    source: Freshness = CURRENT
    told: Told | None = None  # None = there is no API server


def readings(facts: Facts, workers: Iterable[Worker]) -> Iterator[Reading]:
    yield Reading("build_info", "The version that runs.", 1, {"version": facts.version})
    yield _gauge("config_generation", "Generation of the newest compiled configuration.", facts.generation)
    yield _gauge("config_generation_in_force", "Newest generation that workers and kernel carry.", facts.in_force)
    text = "From a change being noticed until workers and kernel carried it: of the newest in force."
    yield _gauge("config_apply_seconds", text, facts.apply_seconds)
    text = "Unix time since when the newest in force is in force; 0 = nothing is."
    yield _gauge("config_in_force_timestamp_seconds", text, facts.in_force_since)
    yield _gauge("config_errors", "Objects and files that are not in force as written.", facts.config_errors)
    yield _gauge("pods_enrolled", "Pods of this node in the mesh.", facts.pods)
    yield _gauge("pods_failed", "Pods that should be in the mesh and cannot be.", facts.pods_failed)
    yield _gauge("pods_found", "Pods of any label whose network namespace was found by their cgroup.", facts.pods_found)
    text = "Pods whose network namespace cannot be told or is not theirs alone; those with hostNetwork are among them."
    yield _gauge("pods_refused", text, facts.pods_refused)
    yield _gauge("pods_waiting", "Pods that have a cgroup and no sandbox in it yet, or no more.", facts.pods_waiting)
    yield _gauge("hooks_attached", "1 while the connect hooks are attached.", float(facts.attached))
    yield _gauge("bypass", "1 while `bypass on` sends everything direct.", float(facts.bypass))
    yield _counter("worker_deaths", "Workers that ended without being asked to.", facts.worker_deaths)
    yield _counter("workers_hung", "Workers killed because their heartbeat stopped.", facts.workers_hung)
    yield _counter("broker_deaths", "Times the broker ended without being asked to.", facts.broker_deaths)
    yield _counter("broker_errors", "Sockets the broker could not make.", facts.broker_errors)
    yield _counter("canary_failures", "Canary connects that no worker answered.", facts.canary_failures)
    yield _counter("events_lost", "Request records that a slow observer missed.", facts.events_lost)
    text = "Times that established connections could not be looked at, so that ended or listed ones are late."
    yield _counter("settling_errors", text, facts.settling_errors)
    yield from _of_source(facts.source)
    if facts.told is not None:
        yield from _of_told(facts.told)
    yield from _of_workers(facts, list(workers))


def _of_source(source: Freshness) -> Iterator[Reading]:
    yield _gauge("source_stale_seconds", "How long what is in force may be behind its source.", source.stale)
    for kind in source.kinds:
        yield from _of_kind(kind)


def _of_told(told: Told) -> Iterator[Reading]:
    yield _gauge("status_writer", "1 while this agent is the one that writes status.", float(told.writer))
    yield _gauge("status_waiting", "Objects whose status the writer has yet to look at or to write.", told.waiting)
    text = "Statuses of objects written, refused because another wrote first, or failed."
    yield _result("status_writes", text, "written", told.statuses)
    yield _result("status_writes", text, "conflict", told.statuses_conflicting)
    yield _result("status_writes", text, "failed", told.statuses_failed)
    text = "Writes of this node's MeshNode."
    yield _result("meshnode_writes", text, "written", told.nodes)
    yield _result("meshnode_writes", text, "failed", told.nodes_failed)
    text = "Events written, failed, or left out because of a bound."
    yield _result("kubernetes_events", text, "written", told.events)
    yield _result("kubernetes_events", text, "failed", told.events_failed)
    yield _result("kubernetes_events", text, "left-out", told.events_left_out)


def _result(name: str, text: str, result: str, value: float) -> Reading:
    return Reading(name, text, value, {"result": result}, counter=True)


def _of_kind(kind: KindState) -> Iterator[Reading]:
    labels = {"kind": kind.kind}
    yield Reading("source_objects", "Objects of this kind in force.", kind.objects, labels)
    text = "1 while this kind is followed, or is not installed."
    yield Reading("source_synced", text, float(kind.state in ("synced", "absent")), labels)
    yield Reading("source_relists", "Lists that were needed after the first.", kind.relists, labels, counter=True)
    text = "Questions that the API server did not answer, or not usefully."
    yield Reading("source_failures", text, kind.failures, labels, counter=True)


def _gauge(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, value, {})


def _counter(name: str, text: str, value: float) -> Reading:
    return Reading(name, text, value, {}, counter=True)


def _of_workers(facts: Facts, workers: list[Worker]) -> Iterator[Reading]:
    yield _gauge("workers", "Living worker processes.", len(workers))
    now = time.monotonic()
    for worker in workers:
        labels = {"worker": str(worker.index)}
        beat = facts.beats.get(worker.index, 0.0)
        if beat:
            yield Reading("worker_heartbeat_age_seconds", "Age of a worker's heartbeat.", now - beat, labels)
        for name, value in sorted(worker.report.stats.items()):
            text = HELP.get(name, f"Value {name!r} of a worker, since it started.")
            yield Reading(f"worker_{name}", text, value, labels)
