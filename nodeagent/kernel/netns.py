"""What the netlink child answers, and how it is asked: importable without pyroute2.

Requests and answers are JSON objects; the child (`nodeagent.kernel.netlink`) enters network
namespaces, which its parent must not do.  All functions here block: call them in a thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Self

# For one answer; a namespace takes the child some milliseconds, so a node full of them gets more.
ANSWER_S = 5.0
NAMESPACE_S = 0.05


class NetlinkError(Exception):
    """The child failed as a whole; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """`error` not empty = nothing else is valid.  `addresses` are canonical, of all devices."""

    cookie: int = 0
    addresses: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection in a namespace.  IPv4-mapped addresses read as IPv4; `cookie` is the socket's."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    cookie: int
    dialled: bool  # False = something listens on the local port, so it was accepted
    cgroup: int  # id of the cgroup that made the socket


class NetlinkChild:
    """One child for several questions; its start (0.3 s) is most of the cost.  Use as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "nodeagent.kernel.netlink"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; one that hangs is killed."""
        try:
            self._process.communicate(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def ask(self, request: dict[str, Any]) -> Any:
        """NetlinkError if the child gives no answer in time or says why it cannot."""
        line = self._exchange_within(
            ANSWER_S + NAMESPACE_S * len(request.get("paths", ())), request["op"], json.dumps(request) + "\n"
        )
        if not line:
            raise NetlinkError(f"the netlink child ended at {request['op']!r}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NetlinkError(f"the netlink child failed at {request['op']!r}: {answer['error']}")
        return answer["result"]

    def _exchange_within(self, seconds: float, what: str, line: str) -> str:
        """As `_exchange`; a child that needs longer is killed, which ends the waiting."""
        expired = threading.Event()

        def give_up() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            answer = self._exchange(line)
        finally:
            timer.cancel()
        if expired.is_set():
            raise NetlinkError(f"the netlink child gave no answer to {what!r} within {seconds:.0f} s: killed")
        return answer

    def _exchange(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise NetlinkError("the netlink child has no pipes")
        try:
            stdin.write(line)
            stdin.flush()
        except BrokenPipeError:
            return ""
        return stdout.readline()

    def _last_words(self) -> str:
        stderr = self._process.stderr
        return stderr.read().strip()[-500:] if stderr else ""

    def inspect(self, paths: Collection[str]) -> dict[str, NamespaceInfo]:
        """Cookie and addresses per namespace path; one that cannot be entered has `error` set."""
        answer = self.ask({"op": "inspect", "paths": list(paths)})
        return {
            path: NamespaceInfo(found["cookie"], tuple(found["addresses"]), found["error"])
            for path, found in answer.items()
        }

    def established(self, paths: Collection[str]) -> dict[str, list[Connection]]:
        """TCP connections per namespace path that carry data or are about to; a gone namespace is left out."""
        answer = self.ask({"op": "established", "paths": list(paths)})
        return {path: [Connection(**row) for row in rows] for path, rows in answer.items()}

    def destroy(self, path: str, connections: Collection[Connection]) -> int:
        """End these connections (the pod reads ECONNABORTED, the peer a reset): how many still existed."""
        rows = [asdict(connection) for connection in connections]
        return int(self.ask({"op": "destroy", "path": path, "connections": rows}))


def inspect(paths: Collection[str]) -> dict[str, NamespaceInfo]:
    with NetlinkChild() as child:
        return child.inspect(paths)


def established(paths: Collection[str]) -> dict[str, list[Connection]]:
    with NetlinkChild() as child:
        return child.established(paths)


def destroy(path: str, connections: Collection[Connection]) -> int:
    with NetlinkChild() as child:
        return child.destroy(path, connections)
