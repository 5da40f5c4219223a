"""The admin API's answers, from the agent's parts: reads, and the two requests that change something."""

from __future__ import annotations

import dataclasses
import enum
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from nodeagent import __version__
from nodeagent.admin.api import Json, NotFoundError
from nodeagent.agent import explain, observe_stream, views
from nodeagent.agent.parts import Parts
from nodeagent.agent.readings import Facts, NodeState
from nodeagent.agent.remembered import Remembered
from nodeagent.agent.worker import State, Worker
from nodeagent.config.conditions import programmed
from nodeagent.config.problems import NOT_PROGRAMMED, Complaint
from nodeagent.core.model import Snapshot
from nodeagent.regex import compile_regex

# Said wherever the state of the mesh is shown, because it is what a reader would wrongly assume.
NOTES = (
    (
        "callers that are not enrolled are not judged: policy is applied where a connection starts "
        "(nodeagent_unjudged_connections_total counts them)"
    ),
    "UDP, and so QUIC (HTTP/3), passes untouched",
)


class AdminView:
    """Implements admin.api.AdminApi."""

    def __init__(self, parts: Parts, started: float, hand_over: Callable[[], None]) -> None:
        """`started`: CLOCK_MONOTONIC seconds; `hand_over` gives the instance to a successor."""
        self._parts = parts
        self._started = started
        self._hand_over = hand_over
        self._is_attached = Remembered(parts.instance.is_attached)

    # ---- health ----

    def live(self) -> str:
        return ""  # answering is the proof: this runs on the loop that supervises

    def ready(self) -> str:
        parts = self._parts
        progress = parts.programmer.progress
        if not progress.synced:
            problem = parts.configuration.source.freshness().problem
            return "no configuration is in force yet" + (f": {problem}" if problem else "")
        if not parts.fleet.supervisor.active:
            return f"no worker is alive: {parts.fleet.supervisor.problem or 'they are being started'}"
        if self.in_force() < progress.synced:
            return f"workers have not acknowledged generation {progress.synced} yet"
        unreachable = parts.fleet.why_unreachable(parts.kernel.known_cookies())
        if unreachable:
            return unreachable
        if parts.enrolment.failing:
            return parts.enrolment.failing
        if not self._is_attached():
            return "the connect hooks are not attached"
        return parts.canary.problem

    def workers(self) -> tuple[int, int]:
        """(That serve, that there should be)."""
        active = self._parts.fleet.supervisor.active
        return sum(worker.state is State.READY for worker in active), self._parts.settings.workers

    def left_out(self) -> Mapping[str, str]:
        """Pods that should be enrolled ("namespace/name"), and why they are not."""
        return self._parts.enrolment.problems

    def in_force(self) -> int:
        """The newest generation that the maps carry and every worker that serves has acknowledged."""
        serving = self._parts.fleet.serving()
        return min([self._parts.programmer.progress.synced, *(worker.report.applied for worker in serving)])

    def errors(self) -> list[str]:
        """Why the newest configuration is not wholly in force."""
        return self._parts.programmer.errors()

    # ---- state ----

    def state(self) -> NodeState:
        parts = self._parts
        return NodeState(
            attached=self._is_attached(),
            bypass=parts.maps.bypassed(),
            pods=len(parts.enrolment.pods),
            pods_failed=len(parts.enrolment.problems),
            generation=parts.programmer.progress.compiled,
            in_force=self.in_force(),
            source=parts.configuration.source.freshness(),
        )

    def facts(self) -> Facts:
        parts, state = self._parts, self.state()
        beats = parts.maps.heartbeats()
        supervisor = parts.fleet.supervisor
        return Facts(
            version=__version__,
            generation=state.generation,
            in_force=state.in_force,
            config_errors=len(parts.configuration.errors()) + len(parts.programmer.errors()),
            pods=state.pods,
            pods_failed=state.pods_failed,
            pods_found=len(parts.finder.sandboxes),
            pods_refused=len(parts.finder.refused),
            pods_waiting=len(parts.finder.waiting.keys() - parts.finder.refused.keys()),
            attached=state.attached,
            bypass=state.bypass,
            worker_deaths=supervisor.deaths,
            workers_hung=supervisor.hung,
            broker_deaths=parts.fleet.broker_deaths,
            broker_errors=parts.fleet.broker.errors,
            canary_failures=parts.canary.failures,
            events_lost=parts.observers.lost,
            settling_errors=parts.programmer.settler.errors,
            apply_seconds=parts.programmer.progress.seconds,
            in_force_since=parts.programmer.progress.since,
            source=state.source,
            told=parts.reporting.told() if parts.reporting else None,
            beats={index: beat / 1e9 for index, beat in enumerate(beats) if beat},
        )

    def status(self) -> Json:
        parts, facts = self._parts, self.facts()
        problem = self.ready()
        errors, warnings = [*parts.configuration.errors(), *self._not_programmed()], parts.configuration.warnings()
        return {
            "agent": {
                "alive": True,
                "ready": not problem,
                "problem": problem,
                "pid": os.getpid(),
                "version": __version__,
                "uptime_s": round(time.monotonic() - self._started, 1),
            },
            "instance": {
                "node": parts.settings.node_name,
                "cgroup": str(parts.instance.cgroup),
                "bpffs": str(parts.instance.layout.bpffs),
                "run_dir": str(parts.settings.run_dir),
                "attached": facts.attached,
                "bypass": facts.bypass,
            },
            "config": {
                "source": parts.configuration.source.name,
                "stale_s": round(facts.source.stale, 1),
                "restored": facts.source.restored,
                "source_problem": facts.source.problem,
                "kinds": [dataclasses.asdict(kind) for kind in facts.source.kinds],
                "generation": facts.generation,
                "in_force": facts.in_force,
                "errors": [one.text for one in errors],
                "warnings": [one.text for one in warnings],
                # The same, with what a program can tell them apart by.
                "complaints": [*_leveled("error", errors), *_leveled("warning", warnings)],
            },
            "workers": [self._worker(worker, facts) for worker in parts.fleet.supervisor.workers],
            "worker_deaths": facts.worker_deaths,
            "broker": {
                "pid": parts.fleet.broker.pid,
                "alive": parts.fleet.broker.alive,
                "errors": parts.fleet.broker.errors,
                "last_error": parts.fleet.broker.last_error,
            },
            "pods": {
                "enrolled": sorted(parts.enrolment.pods),
                "failed": dict(parts.enrolment.problems),
                "host_network": self._host_network(),
            },
            "notes": list(NOTES),
        }

    def _not_programmed(self) -> list[Complaint]:
        return [Complaint(NOT_PROGRAMMED, text) for text in self.errors()]

    def _host_network(self) -> list[str]:
        """Pods of this node that are left out, whatever their label."""
        snapshot = self._parts.configuration.snapshot
        pods = snapshot.workloads.values() if snapshot is not None else ()
        return sorted(pod.key for pod in pods if pod.host_network and pod.is_here)

    def _worker(self, worker: Worker, facts: Facts) -> Json:
        beat = facts.beats.get(worker.index)
        return {
            "index": worker.index,
            "pid": worker.pid,
            "state": worker.state.value,
            "generation": worker.report.applied,
            "listeners": len(worker.report.listening),
            "heartbeat_age_s": round(time.monotonic() - beat, 3) if beat else None,
            "stats": worker.report.stats,
        }

    # ---- objects ----

    def objects(self, kind: str, namespace: str, name: str) -> list[Json]:
        return views.rows(self._world(), kind, namespace, name)

    def _world(self) -> views.World:
        parts = self._parts
        return views.World(
            self._snapshot(),
            parts.enrolment.pods,
            parts.enrolment.problems,
            tuple(parts.configuration.rejected()),
            parts.configuration.compiled,
            tuple(programmed(parts.configuration.conditions, self.in_force())),
        )

    def _snapshot(self) -> Snapshot:
        snapshot = self._parts.configuration.snapshot
        if snapshot is None:
            raise NotFoundError("no configuration is compiled yet; the agent has only just started")
        return snapshot

    def snapshot(self) -> Json:
        snapshot = self._snapshot()
        return {
            "generation": snapshot.generation,
            "destinations": [plain(destination) for _, destination in sorted(snapshot.destinations.items())],
            "workloads": [plain(workload) for _, workload in sorted(snapshot.workloads.items())],
        }

    async def connections(self, namespace: str, name: str) -> list[Json]:
        parts = self._parts
        pods = [pod for pod in parts.enrolment.pods.values() if _selected(pod.key, namespace, name)]
        if name and not pods:
            raise NotFoundError(f"no enrolled pod {name!r} on this node; `nodeagent get workloads` lists them")
        keys = {pod.key for pod in pods}
        proxied = [row for row in await parts.fleet.connections() if row.get("source") in keys]
        direct = await parts.connections.rows(pods)
        return [_proxied_row(row) for row in proxied] + direct

    # ---- questions ----

    def explain(self, query: Mapping[str, Any]) -> Json:
        question = explain.parse_question(query)
        return explain.explain(self._snapshot(), self._parts.enrolment.pods, question, compile_regex)

    def observe(self, query: Mapping[str, str]) -> AbstractAsyncContextManager[AsyncIterator[Json]]:
        parts = self._parts
        return observe_stream.stream(parts.observers, query, self._why_silent, parts.fleet.not_observing)

    def _why_silent(self, source: str) -> str:
        enrolled = self._parts.enrolment.pods
        if not enrolled:
            return "No pod is enrolled: label a namespace mesh.nodeagent.dev/dataplane=enabled."
        snapshot = self._parts.configuration.snapshot
        for pod in source.split(","):
            if "/" in pod and pod not in enrolled:
                found = snapshot.workloads.get(pod) if snapshot is not None else None
                if found is not None and found.is_judged_elsewhere:
                    return f"{explain.elsewhere(found)}: watch the agent there."
                return f"Pod {pod} is not enrolled; `nodeagent get workloads` says why."
        if snapshot is not None and not any(d.rung.value == "proxy" for d in snapshot.destinations.values()):
            return "No destination has an HTTP route or rule, so nothing passes the proxy."
        return ""

    async def handover(self) -> Json:
        self._hand_over()
        return {"pid": os.getpid()}


def _leveled(level: str, complaints: Iterable[Complaint]) -> Iterator[Json]:
    return ({"level": level, **one._asdict()} for one in complaints)


def _selected(key: str, namespace: str, name: str) -> bool:
    there, _, pod = key.partition("/")
    return namespace in ("", there) and name in ("", pod)


def _proxied_row(row: Json) -> Json:
    namespace, _, name = str(row.get("source", "")).partition("/")
    return {
        "namespace": namespace,
        "name": name,
        "path": "proxied",
        "local": row.get("peer", ""),
        "remote": row.get("original", ""),
        "destination": row.get("destination", ""),
        "worker": row.get("worker", ""),
    }


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON knows them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
