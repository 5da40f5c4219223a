"""Stand-ins for what surrounds the fleet: its maps, its broker, its workers' processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.agent.fleet import Fleet
from nodeagent.agent.worker import State, Worker


class FakeMaps:
    """The listeners that were entered: (cookie, worker, family) -> port."""

    def __init__(self) -> None:
        self.entered: dict[tuple[int, int, int], int] = {}

    def set_listener(self, netns: int, worker: int, family: int, port: int) -> None:
        self.entered[netns, worker, family] = port

    def delete_listener(self, netns: int, worker: int, family: int) -> bool:
        return self.entered.pop((netns, worker, family), None) is not None

    def delete_worker_listeners(self, worker: int) -> int:
        mine = [key for key in self.entered if key[1] == worker]
        return sum(self.delete_listener(*key) for key in mine)

    def clear_heartbeat(self, worker: int) -> None:
        pass


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
    fleet = Fleet(cast("Any", maps), directory, len(workers), {})
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
