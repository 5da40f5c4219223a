"""An agent that says it is ready is: the first request meets the rules, and a stream that began misses none."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.shop import Shop, deny, open_shop

SETTLE_SECONDS = 4.0  # after so long the agent writes the maps although no worker listens


@pytest.fixture
def shop() -> Iterator[Shop]:
    """Its agent is not started; web may not ask the catalog for anything."""
    with open_shop(start=False) as made:
        made.bed.manifests.write("40-deny.yaml", deny("no-get", "catalog", "web", http={"methods": ["GET"]}))
        yield made


def broker_of(shop: Shop) -> int:
    """Its pid, as soon as there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for pid in shop.agent.pids() if (shop.agent.cgroup / "agent").exists() else []:
            if b"nodeagent.proxy.broker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        time.sleep(0.005)
    raise AssertionError("no broker was started")


def test_an_agent_whose_broker_makes_no_listeners_is_not_ready(shop: Shop) -> None:
    starter = threading.Thread(target=shop.agent.start, args=(40,))
    starter.start()
    broker = broker_of(shop)
    os.kill(broker, signal.SIGSTOP)
    try:
        starter.join(SETTLE_SECONDS + 2)
        assert starter.is_alive(), "it said that it was ready"
        status, text = shop.agent.admin("/readyz")
        assert status == 503
        assert b"listen" in text
    finally:
        os.kill(broker, signal.SIGCONT)
        starter.join(40)
    assert not starter.is_alive()
    assert shop.get(shop.web, shop.url(1)) == 403


def read_until(stream: socket.socket, text: bytes) -> bytes:
    received = b""
    while text not in received:
        received += stream.recv(65536)
    return received


def test_a_stream_begins_when_the_worker_sends_and_holds_what_is_asked_from_then_on(shop: Shop) -> None:
    shop.agent.start()
    worker = json.loads(shop.agent.admin("/v1/status")[1])["workers"][0]["pid"]
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(shop.agent.run_dir / "admin.sock"))
        os.kill(worker, signal.SIGSTOP)
        try:
            stream.sendall(b"GET /v1/observe?follow=1 HTTP/1.1\r\nHost: agent\r\n\r\n")
            stream.settimeout(0.5)
            with pytest.raises(TimeoutError):
                stream.recv(1)
        finally:
            os.kill(worker, signal.SIGCONT)
        stream.settimeout(10)
        read_until(stream, b"\r\n\r\n")
        assert shop.get(shop.web, shop.url(1, "/followed")) == 403
        read_until(stream, b'"path":"/followed"')
