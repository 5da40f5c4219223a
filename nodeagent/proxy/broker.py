"""The broker: `python -m nodeagent.proxy.broker`, the only process that enters pods' namespaces for sockets.

It makes listeners for every (pod, worker, family), and upstream sockets when a worker asks, and passes
them on; it never reads a byte of traffic.  It trusts the agent and not the workers: a worker names a pod
by its cookie, and gets sockets of the pods that the agent named, no more than MAX_SOCKETS at a time.

One thread and no asyncio: it is small (about 13 MB) and does one thing at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from nodeagent.kernel import setns
from nodeagent.proxy import broker_wire, sandbox
from nodeagent.proxy.broker_wire import FAMILIES, MAX_SOCKETS
from nodeagent.proxy.pod_listener import make_pod_listener
from nodeagent.proxy.pulse import BEAT_SECONDS, Pulse
from nodeagent.proxy.sockets import Buffers, make_upstream

RETRY_SECONDS = 1.0
"""A listener that could not be made (descriptors or memory ran out) is tried again: without it no rule is applied."""


class Peer:
    """One end of a socket pair.  While the other side does not read, it is not read either: nothing piles up."""

    def __init__(self, selector: selectors.BaseSelector, end: socket.socket, handle: Callable[[Peer], None]) -> None:
        end.setblocking(False)
        self.end = end
        self._selector = selector
        self._handle = handle
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        selector.register(end, selectors.EVENT_READ, self.ready)

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Takes over `fds`: they are closed here once they are passed on."""
        self._queue.append((broker_wire.encode(message), list(fds)))
        self._flush()

    def ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._handle(self)

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                broker_wire.send(self.end, data, fds)
            except BlockingIOError:
                self._selector.modify(self.end, selectors.EVENT_WRITE, self.ready)
                return
            except OSError:
                # It is gone; the agent says so too (worker_del), and until then nothing more is read of it.
                self._drop_queue()
                return
            self._queue.popleft()
            _close(fds)
        self._selector.modify(self.end, selectors.EVENT_READ, self.ready)

    def _drop_queue(self) -> None:
        while self._queue:
            _close(self._queue.popleft()[1])

    def close(self) -> None:
        self._drop_queue()
        self._selector.unregister(self.end)
        self.end.close()


class Broker:
    """Pods and workers as the agent tells them."""

    def __init__(self, control: socket.socket, home: int, buffers: Buffers, pulse: Pulse) -> None:
        """`home` is a descriptor of our own network namespace; `buffers` are those of every data socket."""
        self._pulse = pulse
        self._home = home
        self._buffers = buffers
        self._selector = selectors.DefaultSelector()
        self._pods: dict[int, int] = {}
        self._workers: dict[int, Peer] = {}
        self._missing: set[tuple[int, int, int]] = set()  # (worker, cookie, family) that do not listen and should
        self._next_try = 0.0
        self._agent = Peer(self._selector, control, self._from_agent)
        self._running = True

    def run(self) -> None:
        """Until the agent closes its end."""
        try:
            self._serve()
        finally:
            for peer in (self._agent, *self._workers.values()):
                peer.close()
            _close(list(self._pods.values()))
            self._selector.close()

    def _serve(self) -> None:
        while self._running:
            self._pulse.beat()
            for key, events in self._selector.select(BEAT_SECONDS):
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]  # we register sockets only
                    key.data(events)
            if self._missing and time.monotonic() >= self._next_try:
                self._retry()

    # ---- the agent ----

    def _from_agent(self, peer: Peer) -> None:
        try:
            message, fds = broker_wire.receive(peer.end)
        except ConnectionResetError:  # it ended without having read our last complaint
            message, fds = None, []
        if message is None:
            self._running = False
            return
        op = message["op"]
        if op == "pod_add":
            self._add_pod(message["cookie"], fds[0])
        elif op == "pod_del":
            self._remove_pod(message["cookie"])
        elif op == "worker_add":
            self._add_worker(message["worker"], fds[0])
        elif op == "worker_del":
            self._remove_worker(message["worker"])

    def _add_pod(self, cookie: int, namespace: int) -> None:
        if cookie in self._pods:
            os.close(self._pods[cookie])
        self._pods[cookie] = namespace
        for index in list(self._workers):
            self._listen(index, cookie)

    def _remove_pod(self, cookie: int) -> None:
        namespace = self._pods.pop(cookie, None)
        if namespace is not None:
            os.close(namespace)
        self._missing = {key for key in self._missing if key[1] != cookie}
        for worker in self._workers.values():
            worker.send({"op": "pod_del", "cookie": cookie})

    def _add_worker(self, index: int, fd: int) -> None:
        self._remove_worker(index)
        self._workers[index] = Peer(self._selector, socket.socket(fileno=fd), self._from_worker)
        for cookie in self._pods:
            self._listen(index, cookie)

    def _remove_worker(self, index: int) -> None:
        self._missing = {key for key in self._missing if key[0] != index}
        worker = self._workers.pop(index, None)
        if worker is not None:
            worker.close()

    # ---- listeners ----

    def _listen(self, index: int, cookie: int) -> None:
        for family in FAMILIES:
            try:
                listener = self._make_listener(cookie, family)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    self._send_listener(index, cookie, family, None)
                    continue
                # The worker is told nothing, so that the agent knows that it does not listen there.
                self._complain(cookie, f"cannot listen in the pod's namespace, trying again each second: {error}")
                self._missing.add((index, cookie, family))
                self._next_try = time.monotonic() + RETRY_SECONDS
            else:
                self._send_listener(index, cookie, family, listener)

    def _make_listener(self, cookie: int, family: int) -> socket.socket:
        with setns.inside(self._pods[cookie], self._home):
            return make_pod_listener(FAMILIES[family], self._buffers)

    def _send_listener(self, index: int, cookie: int, family: int, listener: socket.socket | None) -> None:
        port = listener.getsockname()[1] if listener is not None else 0
        message = {"op": "listener", "cookie": cookie, "family": family, "port": port}
        self._workers[index].send(message, [] if listener is None else [listener.detach()])

    def _retry(self) -> None:
        """The first failure was complained of; what works now is told the worker, and by it the agent."""
        self._next_try = time.monotonic() + RETRY_SECONDS
        for index, cookie, family in sorted(self._missing):
            try:
                listener = self._make_listener(cookie, family)
            except OSError:
                continue
            self._missing.discard((index, cookie, family))
            self._send_listener(index, cookie, family, listener)

    def _complain(self, cookie: int, message: str) -> None:
        self._agent.send({"op": "error", "cookie": cookie, "message": message})

    # ---- workers ----

    def _from_worker(self, worker: Peer) -> None:
        try:
            request = _read_request(worker.end)
        except BlockingIOError:
            return
        except _BROKEN as error:
            self._complain(0, f"a worker broke the protocol and gets nothing more: {error!r}")
            request = None
        if request is None:
            self._forget(worker)
        else:
            self._answer(worker, *request)

    def _forget(self, worker: Peer) -> None:
        for index, one in list(self._workers.items()):
            if one is worker:
                self._remove_worker(index)

    def _answer(self, worker: Peer, cookie: int, family: int, count: int) -> None:
        message: dict[str, Any] = {"op": "sockets", "cookie": cookie, "family": family}
        made: list[int] = []
        problem = OSError(errno.ENETDOWN, "the pod is gone")
        namespace = self._pods.get(cookie)
        if namespace is not None:
            try:
                with setns.inside(namespace, self._home):
                    made.extend(make_upstream(FAMILIES[family], self._buffers).detach() for _ in range(count))
            except OSError as error:
                problem = error
                self._complain(cookie, f"cannot make a socket in the pod's namespace: {error}")
        if made:
            worker.send(message, made)
        else:
            worker.send({**message, "op": "failed", "errno": problem.errno or errno.EIO})


_BROKEN = (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading a hostile worker's datagram may raise; `{"count": Infinity}` and deep nesting included."""


def _read_request(end: socket.socket) -> tuple[int, int, int] | None:
    """(cookie, family, count), or None at the end.  One of _BROKEN for anything else."""
    message, fds = broker_wire.receive(end)
    _close(fds)  # nobody asked for any
    if message is None:
        return None
    cookie, family = int(message["cookie"]), int(message["family"])
    if message["op"] != "sockets" or family not in FAMILIES:
        raise ValueError(f"unknown request {message!r}")
    return cookie, family, max(1, min(int(message["count"]), MAX_SOCKETS))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(prog="nodeagent.proxy.broker")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--pulse-fd", type=int, required=True)
    parser.add_argument("--receive-buffer", type=int, default=Buffers().receive)
    parser.add_argument("--unsent", type=int, default=Buffers().unsent)
    arguments = parser.parse_args()
    # The agent ends us by closing its end: a Ctrl-C meant for it must not take the sockets' source away first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    control = socket.socket(fileno=arguments.control_fd)
    pulse = Pulse(arguments.pulse_fd)
    os.close(arguments.pulse_fd)
    sandbox.confine_broker()
    Broker(control, home, Buffers(arguments.receive_buffer, arguments.unsent), pulse).run()


if __name__ == "__main__":
    main()
