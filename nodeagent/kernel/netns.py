"""What the netlink child answers, and how it is asked: importable without pyroute2.

A request is a JSON object in a line, its answer several: parts, so that a long one is never whole in the child's
memory, and then the end.  The child (`nodeagent.kernel.netlink`) enters network namespaces, which its parent must not
do.  All functions here block: call them in a thread.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

ANSWER_S = 5.0  # for each part of an answer: a namespace's, of connections some hundred
_ENDED_AT_ONCE = 1000  # connections

# Kinds of questions.  One of each can be under way at the same time, and does not wait for the other.
INSPECT, CONNECTIONS = KINDS = ("inspect", "connections")


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
    interface: int = 0  # that it is bound to: without it the kernel does not find the socket


class _RefusedError(Exception):
    """The child says why it gives no answer."""


class _Channel:
    """To one of the child's threads: one question at a time."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._replies = ours.makefile("rb")

    def ask(self, request: dict[str, Any]) -> Iterator[Any]:
        """The answer's parts.  TimeoutError; ConnectionError and EOFError if the child is gone; _RefusedError."""
        self._socket.settimeout(ANSWER_S)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while "part" in (reply := self._read()):
            yield reply["part"]
        if "error" in reply:
            raise _RefusedError(reply["error"])

    def _read(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        return reply

    def end(self) -> None:
        """It is asked nothing more; what it was asked it still answers."""
        with contextlib.suppress(OSError):  # it is gone
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._replies.close()
        self._socket.close()


class NetlinkChild:
    """One child for several questions; its start (0.1 s) is most of the cost.  Use as a context manager."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        with contextlib.ExitStack() as theirs:
            descriptors = [theirs.enter_context(self._open_channel(kind)).fileno() for kind in KINDS]
            command = [sys.executable, "-m", "nodeagent.kernel.netlink", *map(str, descriptors)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=descriptors, text=True
            )
        self._listening = threading.Lock()
        self._words = ""

    def _open_channel(self, kind: str) -> socket.socket:
        ours, its = socket.socketpair()
        self._channels[kind] = _Channel(ours)
        return its

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child once it has answered; one that hangs is killed."""
        for channel in self._channels.values():
            channel.end()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._last_words()
        for channel in self._channels.values():
            channel.close()

    def ask(self, kind: str, request: dict[str, Any]) -> Iterator[Any]:
        """The answer's parts.  NetlinkError if the next does not come in time, or the child says why it cannot."""
        what = f"{request['op']!r}"
        try:
            yield from self._channels[kind].ask(request)
        except TimeoutError:
            self._process.kill()
            raise NetlinkError(f"the netlink child gave no answer to {what} within {ANSWER_S:.0f} s: killed") from None
        except (ConnectionError, EOFError):
            raise NetlinkError(f"the netlink child ended at {what}: {self._last_words()}") from None
        except _RefusedError as error:
            raise NetlinkError(f"the netlink child failed at {what}: {error}") from None

    def _last_words(self) -> str:
        """Waits for its end.  Who waits on another channel reads the same."""
        with self._listening:
            if self._process.stderr is not None and not self._process.stderr.closed:
                self._words = self._process.stderr.read().strip()[-500:]
                self._process.stderr.close()
        return self._words or f"exit status {self._process.wait()}"

    def inspect(self, paths: Collection[str]) -> dict[str, NamespaceInfo]:
        """Cookie and addresses per namespace path; one that cannot be entered has `error` set."""
        return {
            path: NamespaceInfo(found["cookie"], tuple(found["addresses"]), found["error"])
            for path, found in self.ask(INSPECT, {"op": "inspect", "paths": list(paths)})
        }

    def established(self, paths: Collection[str]) -> dict[str, list[Connection]]:
        """TCP connections per namespace path that carry data or are about to; a gone namespace is left out."""
        listed: dict[str, list[Connection]] = {}
        for path, rows in self.ask(CONNECTIONS, {"op": "established", "paths": list(paths)}):
            listed.setdefault(path, []).extend(Connection(*row) for row in rows)
        return listed

    def destroy(self, path: str, connections: Collection[Connection]) -> int:
        """End these connections (the pod reads ECONNABORTED, the peer a reset): how many still existed."""
        rows = [astuple(connection) for connection in connections]
        starts = range(0, len(rows), _ENDED_AT_ONCE)
        return sum(self._destroy_some(path, rows[start : start + _ENDED_AT_ONCE]) for start in starts)

    def _destroy_some(self, path: str, rows: Sequence[tuple[Any, ...]]) -> int:
        return sum(self.ask(CONNECTIONS, {"op": "destroy", "path": path, "rows": rows}))


def inspect(paths: Collection[str]) -> dict[str, NamespaceInfo]:
    with NetlinkChild() as child:
        return child.inspect(paths)


def established(paths: Collection[str]) -> dict[str, list[Connection]]:
    with NetlinkChild() as child:
        return child.established(paths)


def destroy(path: str, connections: Collection[Connection]) -> int:
    with NetlinkChild() as child:
        return child.destroy(path, connections)
