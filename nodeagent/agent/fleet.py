"""The workers as one: started with their maps, given pods and snapshots, entered into the kernel's maps.

A worker's listeners are entered into `listeners` only once that worker has the newest snapshot: before that
it would answer by an empty or an older configuration, and so nobody needs to wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from nodeagent.agent import health, worker_index
from nodeagent.agent.broker_client import BROKER, BrokerClient
from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.supervisor import Supervisor
from nodeagent.agent.worker import State, Worker, WorkerFds
from nodeagent.core.model import Snapshot
from nodeagent.kernel import layout
from nodeagent.kernel.ledger_keeper import LedgerKeeper
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.syscall import BpfError
from nodeagent.proxy.frames import encode_command
from nodeagent.proxy.updates import Encoder

log = logging.getLogger(__name__)

FAMILIES = (4, 6)
# How long a replaced worker may finish what it has when its broker died: it cannot open upstreams any more.
ORPHAN_DRAIN_SECONDS = 5.0
ANSWER_SECONDS = 2.0
OBSERVE_SECONDS = 2.0
AT_ONCE = 64 * 1024  # bytes that are sent as one: a worker is woken once
# A broker that dies right after its start is retried slowly: each death also costs the workers.
QUICK_DEATH_SECONDS = 5.0
BROKER_RETRY_SECONDS = 1.0


class Fleet:
    """Implements supervisor.Host."""

    def __init__(self, maps: Maps, ledger: LedgerKeeper, locks: Path, wanted: int, bounds: dict[str, Any]) -> None:
        self._maps = maps
        self.ledger = ledger
        self._locks = locks
        self._bounds = bounds
        self._claims: dict[int, int] = {}
        self._entered: set[Worker] = set()  # those whose listeners are in the maps
        self._pods: dict[int, str] = {}
        self._pod_fds: dict[int, int] = {}
        self._encoder = Encoder()
        self._switches = 0
        self._observing = 0
        self._confirmed: dict[Worker, int] = {}  # the last switch that a worker confirmed
        self._changed = asyncio.Event()
        self._asked: dict[Worker, dict[str, list[asyncio.Future[list[Any]]]]] = {}  # by question
        self.generation = 0
        self._published: Snapshot | None = None
        self.on_record: Callable[[dict[str, Any]], None] = lambda _record: None
        self.broker = self._new_broker()
        self.broker_deaths = 0
        self._broker_quick_deaths = 0
        self._restart: asyncio.TimerHandle | None = None
        self.supervisor = Supervisor(self, wanted)

    def start(self) -> None:
        """Forget what workers left that no longer live, then start the broker; `supervisor.run` starts workers."""
        for index in worker_index.free_indexes(self._locks):
            self._maps.delete_worker_listeners(index)
            self._maps.clear_heartbeat(index)
            self.reap(index)
        self.broker.start()

    @property
    def pods(self) -> dict[int, str]:
        """Cookie of each namespace in the mesh -> its pod's key."""
        return dict(self._pods)

    # ---- what workers are given ----

    def publish(self, snapshot: Snapshot) -> None:
        """Workers get what differs from the last one; who lacks that one says so (`_on_gap`)."""
        self.generation = snapshot.generation
        self._published = snapshot
        frames = self._encoder.advance(snapshot)
        for frame in [b"".join(frames)] if sum(map(len, frames)) <= AT_ONCE else frames:
            self._send_all(frame)

    def _send_whole(self, worker: Worker) -> None:
        for frame in self._encoder.whole():
            worker.send_encoded(frame)

    def observe(self, on: bool) -> None:
        """Each switch has a number, which workers give back; 0 = off.  Those that drain still have requests."""
        self._switches += 1
        self._observing = self._switches if on else 0
        frame = encode_command("observe", self._observing)
        for worker in self.supervisor.workers:
            worker.send_encoded(frame)

    async def not_observing(self, seconds: float = OBSERVE_SECONDS) -> list[int]:
        """Wait until all workers that get connections confirmed the last switch: numbers of those that did not."""
        await self._wait(lambda: not self._unconfirmed(), seconds)
        return self._unconfirmed()

    def _unconfirmed(self) -> list[int]:
        return [worker.index for worker in self.serving() if self._confirmed.get(worker) != self._observing]

    def add_pods(self, pods: list[EnrolledPod]) -> None:
        """Workers hear who a cookie is before the broker makes listeners there.

        A namespace that we hold already, under another key or path, keeps its listeners.
        """
        new = [pod for pod in pods if pod.cookie not in self._pods]
        for pod in pods:
            self._pods[pod.cookie] = pod.key
            self._pod_fds[pod.cookie] = pod.fd
        self._send_all(self._pods_frame())
        for pod in new:
            self.broker.add_pod(pod.cookie, pod.fd)

    def remove_pods(self, pods: list[EnrolledPod]) -> None:
        """Call after `add_pods`: a namespace that an added pod took over (it holds another descriptor) stays."""
        for pod in pods:
            if self._pod_fds.get(pod.cookie) != pod.fd:
                continue
            del self._pods[pod.cookie], self._pod_fds[pod.cookie]
            self.broker.remove_pod(pod.cookie)
            self._forget_listeners(pod.cookie)
        self._send_all(self._pods_frame())

    def _forget_listeners(self, cookie: int) -> None:
        for worker in self.supervisor.workers:
            for family in FAMILIES:
                if worker.report.listening.pop((cookie, family), None) is not None:
                    self._maps.delete_listener(cookie, worker.index, family)

    def _pods_frame(self) -> bytes:
        return encode_command("pods", self.pods)

    def _send_all(self, frame: bytes) -> None:
        for worker in self.supervisor.active:
            worker.send_encoded(frame)

    # ---- settled? ----

    def serving(self) -> list[Worker]:
        """Active workers that the maps send connections to; while there is none, those that will be."""
        active = self.supervisor.active
        return [worker for worker in active if worker in self._entered] or active

    def behind(self) -> list[Worker]:
        """Serving workers that have not acknowledged the newest snapshot."""
        return [worker for worker in self.serving() if worker.report.applied < self.generation]

    def acknowledged(self) -> Snapshot | None:
        """The newest snapshot; None while a worker that lives, if only to finish its requests, has another or none."""
        have = all(worker.report.applied == self.generation for worker in self.supervisor.workers)
        return self._published if have else None

    async def wait_settled(self, cookies: set[int], seconds: float) -> bool:
        """True once a worker serves, all that do acknowledged and listen in `cookies`; False when time is up."""
        return await self._wait(lambda: self._settled(cookies), seconds)

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look again after each report, until time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not condition():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._changed.wait()
            except TimeoutError:
                return condition()
        return True

    def _settled(self, cookies: set[int]) -> bool:
        serving = self.serving()
        return bool(serving) and not self.behind() and all(self._listens(worker, cookies) for worker in serving)

    def _listens(self, worker: Worker, cookies: set[int]) -> bool:
        return all((cookie, family) in worker.report.listening for cookie in cookies for family in FAMILIES)

    def why_unreachable(self, cookies: set[int]) -> str:
        """Why connections from these namespaces would not find a worker, as the hooks look for one; "" = they would."""
        entered = [worker for worker in self.supervisor.active if worker in self._entered]
        if not entered:
            return "the listeners of no worker are in the maps yet"
        deaf = [str(worker.index) for worker in entered if not self._listens(worker, cookies)]
        if deaf:
            return f"worker {', '.join(deaf)} does not listen in every enrolled pod yet"
        oldest = time.monotonic() - health.DEFAULTS.beat
        if not any(self.heartbeat(worker.index) > oldest for worker in entered):
            return "no worker beats, so the hooks choose none"
        return ""

    # ---- supervisor.Host ----

    def claim_index(self, avoid: set[int]) -> int:
        """A worker of an earlier agent may have had this number until now, and its ports be anyone's today."""
        claim = worker_index.claim(self._locks, avoid)
        try:
            self._maps.delete_worker_listeners(claim.index)
            self.ledger.reap(claim.index)
        except BpfError:
            os.close(claim.fd)
            raise
        self._claims[claim.index] = claim.fd
        return claim.index

    def can_launch(self) -> bool:
        """A worker started without a broker would lose it at once."""
        return self.broker.alive

    async def launch(self, worker: Worker) -> None:
        maps = self._maps
        requests = maps.requests_map(worker.index).fd  # made now if it is the first of its number: that can fail
        fds = WorkerFds(
            broker=self.broker.add_worker(worker.index),
            originals=maps.map(layout.ORIGINALS).fd,
            heartbeats=maps.map(layout.HEARTBEATS).fd,
            requests=requests,
            ledger=self.ledger.fds(),
            lock=self._claims.pop(worker.index),
        )
        await worker.start(fds, self._bounds)
        worker.send_encoded(self._pods_frame())
        if self._observing:  # before the snapshot: with that it begins to get connections
            worker.send("observe", self._observing)
        if self.generation:
            self._send_whole(worker)

    def heartbeat(self, index: int) -> float:
        return self._maps.heartbeat(index) / 1e9

    def worker_reported(self, worker: Worker, report: dict[str, Any]) -> None:
        handler = self._handlers().get(report["op"])
        if handler is None:
            log.warning("worker %d sent an unknown report %r", worker.index, report["op"])
            return
        handler(worker, report)

    def _handlers(self) -> Mapping[str, Callable[[Worker, dict[str, Any]], None]]:
        return {
            "ready": self._on_ready,
            "applied": self._on_applied,
            "gap": self._on_gap,
            "observing": self._on_observing,
            "listening": self._on_listening,
            "event": self._on_event,
            "stats": self._on_stats,
            "connections": self._on_answer,
            "busy_pods": self._on_answer,
        }

    def worker_gone(self, worker: Worker) -> None:
        self._maps.delete_worker_listeners(worker.index)
        self._maps.clear_heartbeat(worker.index)
        self.broker.remove_worker(worker.index)
        self._entered.discard(worker)
        self._confirmed.pop(worker, None)
        claim = self._claims.pop(worker.index, None)
        if claim is not None:  # it was never started
            os.close(claim)
        for waiting in chain.from_iterable(self._asked.pop(worker, {}).values()):
            waiting.set_result([])
        self._changed.set()
        self.reap(worker.index)

    def reap(self, index: int) -> None:
        """Give back what the worker with this number held of the node's limits, unless it lives, or another by now."""
        with worker_index.held_if_free(self._locks, index) as free:
            if free and (held := self.ledger.reap(index)):
                log.info("worker %d ended with %d slots of shared limits, which are given back", index, held)

    # ---- reports ----

    def _on_ready(self, worker: Worker, _report: dict[str, Any]) -> None:
        log.info("worker %d (pid %d) is ready", worker.index, worker.pid)

    def _on_applied(self, worker: Worker, report: dict[str, Any]) -> None:
        worker.report.applied = int(report["generation"])
        if worker not in self._entered and worker.report.applied >= self.generation:
            self._entered.add(worker)
            for (cookie, family), port in worker.report.listening.items():
                self._enter(worker, cookie, family, port)
        self._changed.set()

    def _on_gap(self, worker: Worker, report: dict[str, Any]) -> None:
        """It got a change of a snapshot that it does not have: one that was made while it was being started."""
        log.info("worker %d has generation %s: it gets the whole snapshot", worker.index, report["generation"])
        self._send_whole(worker)

    def _on_observing(self, worker: Worker, report: dict[str, Any]) -> None:
        self._confirmed[worker] = int(report["number"])
        self._changed.set()

    def _on_listening(self, worker: Worker, report: dict[str, Any]) -> None:
        cookie, family, port = int(report["cookie"]), int(report["family"]), int(report["port"])
        if cookie not in self._pods:
            return  # the pod left meanwhile; the broker tells the worker too
        worker.report.listening[cookie, family] = port
        if worker in self._entered:
            self._enter(worker, cookie, family, port)
        self._changed.set()

    def _enter(self, worker: Worker, cookie: int, family: int, port: int) -> None:
        if port and worker.state in (State.STARTING, State.READY):  # 0: the pod has no such family
            self._maps.set_listener(cookie, worker.index, family, port)

    def _on_event(self, worker: Worker, report: dict[str, Any]) -> None:
        record = {key: value for key, value in report.items() if key != "op"}
        self.on_record({**record, "worker": worker.index})

    def _on_stats(self, worker: Worker, report: dict[str, Any]) -> None:
        worker.report.stats = {
            key: value for key, value in report.items() if isinstance(value, int | float) and key != "op"
        }

    def _on_answer(self, worker: Worker, report: dict[str, Any]) -> None:
        for waiting in self._asked.get(worker, {}).pop(report["op"], []):
            waiting.set_result(report["rows"])

    # ---- questions ----

    async def connections(self) -> list[dict[str, Any]]:
        """Proxied connections of all workers; a worker that does not answer in time is left out."""
        workers = self.supervisor.workers
        answers = await asyncio.gather(*(self._ask(worker, "connections") for worker in workers))
        told = zip(workers, answers, strict=True)
        return [{**row, "worker": worker.index} for worker, rows in told for row in rows or ()]

    async def serving_pods(self) -> set[str] | None:
        """Keys of the pods that have proxied connections; None if a worker does not answer in time."""
        answers = await asyncio.gather(*(self._ask(worker, "busy_pods") for worker in self.supervisor.workers))
        known = [pods for pods in answers if pods is not None]
        return set(chain.from_iterable(known)) if len(known) == len(answers) else None

    async def _ask(self, worker: Worker, question: str) -> list[Any] | None:
        """The `rows` of its report of that name; None if none comes in time."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        waiting = self._asked.setdefault(worker, {}).setdefault(question, [])
        waiting.append(answer)
        worker.send(question, None)
        done, _ = await asyncio.wait([answer], timeout=ANSWER_SECONDS)
        if not done:
            waiting.remove(answer)
            return None
        return answer.result()

    # ---- broker ----

    def _new_broker(self) -> BrokerClient:
        sizes = ("--receive-buffer", str(self._bounds["receive_buffer"]), "--unsent", str(self._bounds["unsent"]))
        return BrokerClient(self._broker_died, (*BROKER, *sizes))

    def _broker_died(self, how: str) -> None:
        """Start another one and replace the workers: their sockets to the broker died with it."""
        log.error("the broker ended: %s; it is restarted and the workers are replaced", how)
        self.broker_deaths += 1
        for worker in self.supervisor.active:
            self._maps.delete_worker_listeners(worker.index)
        self.supervisor.drain_active(ORPHAN_DRAIN_SECONDS)
        self._broker_quick_deaths = self._broker_quick_deaths + 1 if self.broker.lifetime < QUICK_DEATH_SECONDS else 0
        self.broker = self._new_broker()
        delay = BROKER_RETRY_SECONDS if self._broker_quick_deaths > 1 else 0.0
        self._restart = asyncio.get_running_loop().call_later(delay, self._start_broker)

    def _start_broker(self) -> None:
        try:
            self.broker.start()
        except OSError as error:
            log.error("the broker cannot be started, so no worker can be; tried again in a second: %s", error)
            self._restart = asyncio.get_running_loop().call_later(BROKER_RETRY_SECONDS, self._start_broker)
            return
        for cookie, fd in self._pod_fds.items():
            self.broker.add_pod(cookie, fd)
        self.supervisor.wake()

    async def stop(self, drain_seconds: float) -> None:
        for worker in self.supervisor.workers:
            self._maps.delete_worker_listeners(worker.index)
        if self._restart is not None:
            self._restart.cancel()
        await self.supervisor.stop(drain_seconds)
        await self.broker.stop()
