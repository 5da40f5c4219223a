"""Clients of the shop.  Each keeps the demo's own count of what it saw, to be compared with the mesh's."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.testbed import Pod, Testbed

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """A Service: how clients dial it, and what /metrics calls it."""

    name: str
    address: str
    port: int = 80

    @property
    def label(self) -> str:
        return f"shop/{self.name}:{self.port}"


class Answer(NamedTuple):
    status: int
    reason: str  # x-mesh-reason
    milliseconds: float


@dataclass
class Counts:
    """By (calling workload, service label, status code)."""

    requests: collections.Counter[tuple[str, str, str]] = field(default_factory=collections.Counter)

    def add(self, pod: Pod, target: Target, codes: dict[str, int]) -> None:
        for code, number in codes.items():
            self.requests[pod.name.rpartition("-")[0], target.label, code] += number


class Clients:
    def __init__(self, bed: Testbed) -> None:
        self._bed = bed
        self.counts = Counts()

    def python(self, pod: Pod, target: Target, path: str, count: int = 1, method: str = "GET") -> dict[str, Any]:
        """Python's http.client; see client.py for the answer."""
        argv = [
            sys.executable,
            "-S",
            str(HERE / "client.py"),
            method,
            target.address,
            str(target.port),
            path,
            str(count),
        ]
        done = self._bed.run(pod, argv)
        if done.returncode != 0:
            raise RuntimeError(f"the client in pod {pod.key} failed: {done.stderr}")
        tallies: dict[str, Any] = json.loads(done.stdout)
        self.counts.add(pod, target, tallies["codes"])
        return tallies

    def flood(self, pod: Pod, target: Target, path: str, count: int) -> subprocess.Popen[str]:
        """`count` requests at once by flood.py, under way; `flooded` waits for them."""
        argv = [sys.executable, "-S", str(HERE / "flood.py"), target.address, str(target.port), path, str(count)]
        process: subprocess.Popen[str] = self._bed.popen(pod, argv, stdout=subprocess.PIPE, text=True)
        return process

    def flooded(self, flood: subprocess.Popen[str], pod: Pod, target: Target) -> list[Answer]:
        text, _ = flood.communicate(timeout=30)
        answers = [Answer(*row) for row in json.loads(text)]
        self.counts.add(pod, target, collections.Counter(str(one.status) for one in answers))
        return answers

    def curl(self, pod: Pod, target: Target, path: str, *options: str) -> tuple[str, str]:
        """One request by curl: (status code, its whole answer with the head)."""
        url = f"http://{target.address}:{target.port}{path}"
        done = self._bed.run(pod, ["curl", "-sS", "-i", "--max-time", "10", *options, url])
        if done.returncode != 0:
            return "000", done.stderr.strip()
        code = done.stdout.split(None, 2)[1]
        self.counts.add(pod, target, {code: 1})
        return code, done.stdout

    def wrk(self, pod: Pod, target: Target, path: str, count: int, threads: int = 2) -> str:
        """`count` requests by wrk over `threads` keep-alive connections; returns its summary."""
        url = f"http://{target.address}:{target.port}{path}"
        argv = ["wrk", f"-t{threads}", f"-c{threads}", "-d5s", "--latency", "-s", str(HERE / "wrk.lua"), url]
        done = self._bed.run(pod, [*argv, str(count // threads)])
        summary, _, tally = done.stdout.rpartition("TALLY ")
        if done.returncode != 0 or not tally:
            raise RuntimeError(f"wrk in pod {pod.key} failed: {done.stdout}{done.stderr}")
        total, failed = (int(number) for number in tally.split())
        self.counts.add(pod, target, {"200": total - failed, **({"failed": failed} if failed else {})})
        return summary
