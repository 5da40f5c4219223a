"""Stand-ins for what surrounds the agent's parts: maps, the broker, workers' processes, namespaces."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

from nodeagent.agent.enrolment import EnrolledPod, Enrolment
from nodeagent.agent.fleet import Fleet
from nodeagent.agent.worker import State, Worker
from nodeagent.core.bounds import Bounds
from nodeagent.core.model import Workload
from nodeagent.kernel.netns import NamespaceInfo, NetlinkError


class FakeMaps:
    """The listeners that were entered: (cookie, worker, family) -> port."""

    def __init__(self) -> None:
        self.entered: dict[tuple[int, int, int], int] = {}
        self.beats: dict[int, float] = {}  # worker -> seconds of the monotonic clock

    def heartbeat(self, worker: int) -> int:
        return int(self.beats.get(worker, time.monotonic()) * 1e9)

    def set_listener(self, netns: int, worker: int, family: int, port: int) -> None:
        self.entered[netns, worker, family] = port

    def delete_listener(self, netns: int, worker: int, family: int) -> bool:
        return self.entered.pop((netns, worker, family), None) is not None

    def delete_worker_listeners(self, worker: int) -> int:
        mine = [key for key in self.entered if key[1] == worker]
        return sum(self.delete_listener(*key) for key in mine)

    def clear_heartbeat(self, worker: int) -> None:
        pass


class FakeLedger:
    """`reaped` are the numbers whose slots were given back, in order."""

    def __init__(self) -> None:
        self.reaped: list[int] = []

    def reap(self, worker: int) -> int:
        self.reaped.append(worker)
        return 0


class FakeBroker:
    """What it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.alive = True
        self.lifetime = 60.0

    def start(self) -> None:
        self.alive = True

    def add_pod(self, cookie: int, _fd: int) -> None:
        self.told.append(("add", cookie))

    def remove_pod(self, cookie: int) -> None:
        self.told.append(("remove", cookie))

    def remove_worker(self, index: int) -> None:
        self.told.append(("remove worker", index))


class FakeWorker(Worker):
    """A worker without a process; `sent` are the frames it was sent."""

    def __init__(self, index: int, state: State = State.READY) -> None:
        super().__init__(index, lambda _worker, _report: None, lambda _worker, _status: None)
        self.state = state
        self.sent: list[bytes] = []

    def send_encoded(self, frame: bytes) -> None:
        self.sent.append(frame)

    def send(self, kind: str, payload: object) -> None:
        self.sent.append(kind.encode())


def make_fleet(directory: Path, *workers: Worker) -> tuple[Fleet, FakeMaps, FakeBroker]:
    maps, broker = FakeMaps(), FakeBroker()
    fleet = Fleet(cast("Any", maps), cast("Any", FakeLedger()), directory, len(workers), Bounds().as_json())
    fleet.broker = cast("Any", broker)
    fleet.supervisor._workers.extend(workers)
    return fleet, maps, broker


def pod(key: str, cookie: int, fd: int, path: str = "") -> EnrolledPod:
    return EnrolledPod(key, path or f"/run/netns/{key}", (1, cookie), fd, cookie, ("198.18.0.2",))


def listens(fleet: Fleet, worker: Worker, cookie: int, port: int = 40000) -> None:
    """The worker says that it listens in both families."""
    for family in (4, 6):
        report = {"op": "listening", "cookie": cookie, "family": family, "port": port + family}
        fleet.worker_reported(worker, report)


def applied(fleet: Fleet, worker: Worker, generation: int) -> None:
    fleet.worker_reported(worker, {"op": "applied", "generation": generation})


class Namespaces:
    """Files that stand for namespaces: a file's content is its cookie; `asked` counts the looks into them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[int] = []
        self.failing = ""
        self.now = 0.0

    def make(self, name: str, content: str) -> str:
        path = self.directory / name
        new = self.directory / f".{name}.new"
        new.write_text(content)
        new.rename(path)  # another inode, as with a pod that was made again
        return str(path)

    async def inspect(self, paths: list[str]) -> dict[str, NamespaceInfo]:
        self.asked.append(len(paths))
        if self.failing:
            raise NetlinkError(self.failing)
        return {path: self._info(path) for path in paths}

    def _info(self, path: str) -> NamespaceInfo:
        content = Path(path).read_text()
        return NamespaceInfo(int(content), ("198.18.0.2",)) if content.isdigit() else NamespaceInfo(error=content)

    def enrolment(self) -> Enrolment:
        return Enrolment(self.inspect, lambda: self.now, lambda path: os.open(path, os.O_RDONLY))


def workloads(**paths: str) -> dict[str, Workload]:
    made = [Workload("shop", name, "sa", name, (), path, enrolled=True) for name, path in paths.items()]
    return {workload.key: workload for workload in made}
