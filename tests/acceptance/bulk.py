"""Acceptance 7, first half: bodies larger than memory, both ways at once; and a client that stops reading."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.acceptance import in_force
from tests.acceptance import shop as shops
from tests.acceptance.deaths import worker_pids
from tests.acceptance.shop import HERE, Shop
from tests.testbed import manifests

VIP = 9
PORT = 8400
PATTERN = bytes(range(256)) * 4096  # what both programs send, over and over


@dataclass(frozen=True)
class Moved:
    up_mb_s: float
    down_mb_s: float
    total_mb_s: float  # bytes of both over the time in which either ran
    intact: bool
    rss_growth: int  # bytes; the worker's peak against its idle state before the first request


@dataclass(frozen=True)
class Stopped:
    read: int  # by the client, before it stopped
    written: int  # by the upstream, when it had stopped too
    unsent: int  # of these, still in the upstream's own kernel


def prepare(shop: Shop) -> None:
    """A Service `bulk` on the proxied rung."""
    shop.bed.popen(shop.v1, [sys.executable, "-S", str(HERE / "bulk_server.py"), str(PORT)])
    shop.bed.wait_listening(shop.v1, PORT)
    route = manifests.http_route("shop", "bulk", "bulk", [{"backendRefs": [manifests.backend("bulk", 1)]}])
    documents = [*shops.service(shop.bed, VIP, "bulk", [shop.v1], target=PORT), route]
    in_force.apply(shop, lambda: shop.bed.manifests.write("60-bulk.yaml", *documents))


def both_ways(shop: Shop, size: int, *, chunked: bool) -> Moved:
    """`size` bytes up and `size` bytes down, each on its own connection, at once."""
    [worker] = worker_pids(shop)
    idle = _rss(worker)
    options = ["--chunked"] if chunked else []
    with Peak(worker) as peak:
        start = time.monotonic()
        running = [
            shop.program(shop.web, "bulk_client", way, shop.bed.vip(VIP), 80, size, *options) for way in ("up", "down")
        ]
        up, down = (_result(process) for process in running)
        seconds = time.monotonic() - start
    [same] = worker_pids(shop)
    assert same == worker, "the worker was replaced meanwhile"
    expected = {"bytes": size, "sha256": _digest(size)}
    intact = all({key: said[key] for key in expected} == expected for said in (up, down))
    rates = [size / said["seconds"] / 1e6 for said in (up, down)]
    return Moved(rates[0], rates[1], 2 * size / seconds / 1e6, intact, peak.bytes - idle)


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    said: dict[str, Any] = json.loads(text)
    return said


@functools.cache
def _digest(size: int) -> str:
    """Of `size` bytes of the pattern."""
    digest = hashlib.sha256()
    for _ in range(size // len(PATTERN)):
        digest.update(PATTERN)
    digest.update(PATTERN[: size % len(PATTERN)])
    return digest.hexdigest()


class Peak:
    """The highest RSS of a process during a `with`, looked at every 20 ms."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, _rss(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _rss(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def stopped_reader(shop: Shop, size: int, *, chunked: bool = False) -> Stopped:
    """How much an upstream can give away of a body of which the client reads 1 MiB."""
    argv = [sys.executable, "-S", str(HERE / "bulk_client.py"), "stop", shop.bed.vip(VIP), "80", str(size)]
    argv += ["--chunked"] if chunked else []
    client: subprocess.Popen[str] = shop.bed.popen(
        shop.web, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    read = json.loads(client.stdout.readline())["bytes"]
    last, since = -1, time.monotonic()
    while time.monotonic() < since + 1.0:  # still for a second
        now = _progress(shop)["written"]
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.05)
    progress = _progress(shop)
    client.kill()
    client.communicate()
    return Stopped(read, progress["written"], progress["unsent"])


def _progress(shop: Shop) -> dict[str, int]:
    url = f"http://{shop.v1.ipv4}:{PORT}/progress"
    said: dict[str, int] = json.loads(shop.bed.run(shop.plain, ["curl", "-sS", "--fail", url]).stdout)
    return said
