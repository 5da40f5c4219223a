"""A broker of the test's own, and network namespaces for it to enter."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nodeagent.proxy import broker_wire, pulse
from nodeagent.proxy.broker import Broker
from nodeagent.proxy.sockets import Buffers


@dataclass
class BrokerEnds:
    """The agent's end and one worker's end of a running broker."""

    control: socket.socket
    worker: socket.socket
    pulse_fd: int
    pulse: pulse.Pulse
    pid: int = 0
    held: list[socket.socket] = field(default_factory=list)

    def tell(self, message: dict[str, Any], *fds: int) -> None:
        broker_wire.send(self.control, broker_wire.encode(message), fds)

    def add_pod(self, cookie: int, netns: Path) -> None:
        with netns.open("rb") as namespace:
            self.tell({"op": "pod_add", "cookie": cookie}, namespace.fileno())

    def add_worker(self, end: socket.socket) -> None:
        with end:
            self.tell({"op": "worker_add", "worker": 0}, end.fileno())

    def listener(self) -> tuple[dict[str, Any], socket.socket | None]:
        """The next thing that the worker hears; its listener is closed with the test."""
        message, fds = broker_wire.receive(self.worker)
        assert message is not None
        assert message["op"] == "listener"
        made = [socket.socket(fileno=fd) for fd in fds]
        self.held += made
        return message, made[0] if made else None


@contextmanager
def _ends() -> Iterator[tuple[BrokerEnds, socket.socket, socket.socket]]:
    with ExitStack() as stack:
        control, brokers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (control, brokers, worker, workers):
            stack.enter_context(end)
        for end in (control, worker):
            end.settimeout(5)
        ends = BrokerEnds(control, worker, *stack.enter_context(pulse.shared()))
        yield ends, brokers, workers
        for one in ends.held:
            one.close()


@pytest.fixture
def broker_process() -> Iterator[BrokerEnds]:
    """The real process, confined as ever."""
    with _ends() as (ends, brokers, workers):
        argv = [sys.executable, "-m", "nodeagent.proxy.broker", "--control-fd", str(brokers.fileno())]
        argv += ["--pulse-fd", str(ends.pulse_fd)]
        with subprocess.Popen(argv, pass_fds=[brokers.fileno(), ends.pulse_fd]) as process:
            brokers.close()
            ends.pid = process.pid
            ends.add_worker(workers)
            yield ends
            ends.control.close()
            assert process.wait(5) == 0


@pytest.fixture
def broker_here() -> Iterator[BrokerEnds]:
    """The same code in a thread, for tests that make its system calls fail."""
    with _ends() as (ends, brokers, workers):
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        thread = threading.Thread(target=Broker(brokers, home, Buffers(), ends.pulse).run)
        thread.start()
        ends.add_worker(workers)
        yield ends
        ends.control.close()
        thread.join(5)
        os.close(home)
        assert not thread.is_alive()


@pytest.fixture
def netns() -> Iterator[Path]:
    """A new network namespace: its `lo` is down."""
    name = f"nak-{os.getpid()}-{secrets.token_hex(2)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
