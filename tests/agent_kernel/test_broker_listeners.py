"""No pod goes without the listeners that its rules need."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from nodeagent.proxy import broker as broker_module
from nodeagent.proxy.pod_listener import make_pod_listener
from nodeagent.proxy.sockets import Buffers
from tests.agent_kernel.conftest import BrokerEnds

ADDRESSES = {4: "127.0.0.1", 6: "::1"}


def reach(netns: Path, listener: socket.socket, address: str, port: int) -> bool:
    """Whether a process of the pod can connect to the listener."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
    argv = ["nsenter", f"--net={netns}", "/usr/bin/python3", "-S", "-c", code]
    listener.setblocking(True)
    listener.settimeout(5)
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        if process.wait(5) != 0:
            return False
        listener.accept()[0].close()
        return True


def test_a_pod_whose_lo_was_down_at_enrolment_is_served_over_both_families(
    broker_process: BrokerEnds, netns: Path
) -> None:
    broker_process.add_pod(7, netns)
    listeners = {}
    for _ in ADDRESSES:
        message, listener = broker_process.listener()
        listeners[message["family"]] = message["port"], listener
    subprocess.run(["ip", "-n", netns.name, "link", "set", "lo", "up"], check=True)
    for family, address in ADDRESSES.items():
        port, listener = listeners[family]
        assert listener is not None
        assert reach(netns, listener, address, port)


def test_a_listener_that_could_not_be_made_is_tried_again_until_it_can(
    broker_here: BrokerEnds, netns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exhausted = OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def fail(_family: int, _buffers: Buffers) -> socket.socket:
        raise exhausted

    monkeypatch.setattr(broker_module, "make_pod_listener", fail)
    broker_here.add_pod(7, netns)
    for _ in ADDRESSES:
        assert b"trying again" in broker_here.control.recv(4096)
    broker_here.worker.settimeout(0.2)
    with pytest.raises(TimeoutError):  # told nothing: a worker that listens nowhere must not look as if it did
        broker_here.worker.recv(1)
    broker_here.worker.settimeout(5)
    monkeypatch.setattr(broker_module, "make_pod_listener", make_pod_listener)
    began = time.monotonic()
    found = [broker_here.listener() for _ in ADDRESSES]
    assert time.monotonic() - began < 2.5
    assert sorted(message["family"] for message, _ in found) == [4, 6]
    assert all(message["port"] and listener is not None for message, listener in found)


def test_a_kernel_without_ipv6_is_told_once_and_not_complained_of(
    broker_here: BrokerEnds, netns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_ipv4(family: int, buffers: Buffers) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return make_pod_listener(family, buffers)

    monkeypatch.setattr(broker_module, "make_pod_listener", only_ipv4)
    broker_here.add_pod(7, netns)
    ports = {message["family"]: message["port"] for message, _ in (broker_here.listener() for _ in ADDRESSES)}
    assert ports[4] > 0
    assert ports[6] == 0
    broker_here.worker.settimeout(1.5)
    with pytest.raises(TimeoutError):
        broker_here.worker.recv(1)
    broker_here.control.setblocking(False)
    with pytest.raises(BlockingIOError):
        broker_here.control.recv(1)


def test_the_broker_beats_while_it_has_nothing_to_do_and_not_while_it_is_stopped(broker_process: BrokerEnds) -> None:
    beats = {broker_process.pulse.last}
    end = time.monotonic() + 5.0
    while len(beats) < 4:  # none, and three
        assert time.monotonic() < end
        beats.add(broker_process.pulse.last)
    assert time.monotonic() - max(beats) < 0.5
    os.kill(broker_process.pid, signal.SIGSTOP)
    last = broker_process.pulse.last
    time.sleep(1.5)
    assert broker_process.pulse.last == last
    os.kill(broker_process.pid, signal.SIGCONT)
