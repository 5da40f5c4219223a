"""Acceptance 5: processes die, hang or starve; what the pods see of it, and what the counters say."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.acceptance.figures import lines
from tests.acceptance.shop import Shop
from tests.testbed.metrics import Metrics

OPENED = "nodeagent_tcp_connections_opened_total"
Outcomes = dict[str, Any]


def decreased(before: Metrics, after: Metrics) -> list[str]:
    """Counters that went down or vanished."""
    now = after.counters()
    return sorted(f"{key[0]}{dict(key[1])}" for key, value in before.counters().items() if now.get(key, -1.0) < value)


def worker_pids(shop: Shop) -> list[int]:
    return [pid for pid in shop.agent.pids() if "nodeagent.proxy.worker" in _command(pid)]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


@dataclass(frozen=True)
class Killed:
    open_outcomes: Outcomes
    open_counted: int
    closed_outcomes: Outcomes
    closed_counted: int
    held_alive: str
    decreased: list[str]


def everything_killed(shop: Shop, count: int) -> Killed:
    """SIGKILLs agent, broker and workers; connects from both namespaces to an address on rung 3; restarts."""
    holder = shop.program(shop.web, "holder", shop.bed.vip(4), 80, 10, 8, "--send", 0.1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held 10\n"
    assert shop.get(shop.web, shop.url(1)) == 200
    before = shop.agent.metrics()
    shop.agent.kill()
    vip = shop.bed.vip(1)
    from_open = shop.connect(shop.web, vip, 80, count, 0)
    from_closed = shop.connect(shop.vault, vip, 80, count, 0)
    shop.agent.start()
    after = shop.agent.metrics()
    text, _ = holder.communicate(timeout=30)
    for counts in (from_open, from_closed):
        counts.pop("seconds")
    return Killed(
        from_open,
        int(after.total("nodeagent_bypass_connections_total", reason="no-worker")),
        from_closed,
        int(after.total("nodeagent_refused_connections_total", reason="no-worker")),
        text.strip(),
        decreased(before, after),
    )


@dataclass(frozen=True)
class WorkerKilled:
    seconds: float
    other_errors: int


def worker_killed(shop: Shop) -> WorkerKilled:
    """SIGKILLs one of two workers under keep-alive connections spread over both."""
    client = shop.program(shop.web, "requester", shop.url(1), 5, 16, "--interval", 0.005)
    time.sleep(1.5)
    victim, *others = worker_pids(shop)
    broken = len(proxied_connections(victim))
    start = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while len(set(worker_pids(shop)) - {victim, *others}) < 1 or not _all_accept(shop):
        assert time.monotonic() < start + 10, "no new worker after 10 s"
        time.sleep(0.01)
    seconds = time.monotonic() - start
    text, _ = client.communicate(timeout=60)
    errors = sum(1 for row in lines(text) if row.status != "200")
    return WorkerKilled(seconds, max(0, errors - broken))


def _all_accept(shop: Shop) -> bool:
    status, _ = shop.agent.admin("/readyz")
    return status == 200


def proxied_connections(pid: int) -> list[str]:
    """Established TCP sockets that a worker accepted: those whose local address is loopback, by `ss -p`."""
    found = []
    for netns in sorted(os.listdir("/run/netns")):
        argv = ["nsenter", f"--net=/run/netns/{netns}", "ss", "-Htnp", "state", "established"]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found += [row for row in text.splitlines() if f"pid={pid}," in row and row.split()[2].startswith("127.")]
    return found


@dataclass(frozen=True)
class WorkerStopped:
    avoided_s: float
    replaced_s: float


def worker_stopped(shop: Shop) -> WorkerStopped:
    """SIGSTOPs one of two workers; new connections hang on it at most until its heartbeat is stale."""
    victim, *others = worker_pids(shop)
    client = shop.program(shop.web, "requester", shop.url(1), 8, 4, "--interval", 0.01, "--reconnect")
    time.sleep(1.0)
    start = time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    while not set(worker_pids(shop)) - {victim, *others} or victim in worker_pids(shop):
        assert time.monotonic() < start + 20, "the stopped worker was not replaced in 20 s"
        time.sleep(0.02)
    replaced = time.monotonic() - start
    text, _ = client.communicate(timeout=60)
    # A response that was late had its connection on the stopped worker: the last such end tells when it was avoided.
    times = [row.time for row in lines(text) if row.time > start]
    failed = [row.time - start for row in lines(text) if row.status != "200"]
    gaps = [two - start for one, two in itertools.pairwise(times) if two - one > 0.5]
    return WorkerStopped(max([*gaps, *failed], default=0.0), replaced)


def busy_machine(shop: Shop, seconds: float) -> tuple[int, int]:
    """(connects that bypassed, workers replaced) while every core is kept at 100 % by others."""
    workers = set(worker_pids(shop))
    before = shop.agent.metrics().total("nodeagent_bypass_connections_total")
    burner = [sys.executable, "-S", "-c", "while True: pass"]
    burners = [subprocess.Popen(burner) for _ in range(os.cpu_count() or 1)]
    try:
        shop.connect(shop.web, shop.bed.vip(1), 80, int(seconds * 20), 20, "--request")
    finally:
        for process in burners:
            process.kill()
            process.wait()
    after = shop.agent.metrics().total("nodeagent_bypass_connections_total")
    return int(after - before), len(workers - set(worker_pids(shop)))


def route_recreated(shop: Shop) -> list[str]:
    for _ in range(20):
        assert shop.get(shop.web, shop.url(1)) == 200
    before = shop.agent.metrics()
    shop.bed.manifests.remove("30-route.yaml")
    time.sleep(0.3)
    assert shop.get(shop.web, shop.url(1)) == 200
    between = shop.agent.metrics()
    shop.bed.manifests.write("30-route.yaml", shop.weights(50, 50))
    time.sleep(0.3)
    assert shop.get(shop.web, shop.url(1)) == 200
    after = shop.agent.metrics()
    return decreased(before, between) + decreased(between, after)
