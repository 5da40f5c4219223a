"""A worker's stock of upstream sockets, filled by the broker ahead of need.

Asking for each socket when it is needed costs a round trip between processes (about 50 us); so a (pod,
family) that uses sockets keeps a few at hand, more while it runs out, none after it has been quiet.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from nodeagent.proxy import broker_wire
from nodeagent.proxy.broker_wire import FAMILIES, MAX_SOCKETS

FIRST_BATCH = 2
QUIET_SECONDS = 10.0
AT_ONCE = 4
"""Sockets handed out in one piece to requests that wait for one."""

Key = tuple[int, int]  # (netns cookie, family)
Ready = Callable[[socket.socket | OSError], None]


class _Stock:
    __slots__ = ("asked", "at_hand", "batch", "used", "waiting")

    def __init__(self, now: float) -> None:
        self.at_hand: deque[socket.socket] = deque()
        self.waiting: deque[Ready] = deque()
        self.batch = FIRST_BATCH
        self.asked = False
        self.used = now


class BrokerSockets:
    """Implements engine.SocketSource.  `on_listener(cookie, family, listener or None)` and `on_pod_gone(cookie)`
    bring what the broker sends unasked; `on_end` its end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        on_listener: Callable[[int, int, socket.socket | None], None],
        on_pod_gone: Callable[[int], None],
        on_end: Callable[[], None],
        most: int,
    ) -> None:
        """`most`: sockets at hand over all pods: descriptors that no connection uses yet."""
        end.setblocking(False)
        self._loop = loop
        self._end = end
        self._stocks: dict[Key, _Stock] = {}
        self._size = 0
        self._on_listener = on_listener
        self._on_pod_gone = on_pod_gone
        self._on_end = on_end
        self._most = most
        self._ended = False
        loop.add_reader(end, self._readable)

    @property
    def ended(self) -> bool:
        """The broker is gone: no socket will come any more."""
        return self._ended

    @property
    def size(self) -> int:
        """Sockets at hand."""
        return self._size

    # ---- SocketSource ----

    def take(self, cookie: int, family: int) -> socket.socket | None:
        stock = self._stocks.get((cookie, family))
        if stock is None or not stock.at_hand:
            return None
        sock = stock.at_hand.popleft()
        self._size -= 1
        stock.used = self._loop.time()
        if not stock.asked and len(stock.at_hand) < stock.batch // 2:
            self._ask((cookie, family), stock)
        return sock

    def wait(self, cookie: int, family: int, ready: Ready) -> None:
        if self._ended:
            ready(OSError(errno.EPIPE, "the broker is gone"))
            return
        key = (cookie, family)
        stock = self._stocks.get(key)
        if stock is None:
            stock = self._stocks[key] = _Stock(self._loop.time())
        stock.used = self._loop.time()
        stock.waiting.append(ready)
        if not stock.asked:
            stock.batch = min(max(stock.batch * 2, len(stock.waiting)), MAX_SOCKETS)
            self._ask(key, stock)

    def _ask(self, key: Key, stock: _Stock) -> None:
        count = min(stock.batch, self._most - self._size)
        count = max(count, min(len(stock.waiting), MAX_SOCKETS))
        if count <= 0:
            return
        request = {"op": "sockets", "cookie": key[0], "family": key[1], "count": count}
        try:
            broker_wire.send(self._end, broker_wire.encode(request))
        except BlockingIOError:
            # The broker is behind; the next tick asks again.
            return
        except OSError:
            return  # its end is read in a moment
        stock.asked = True

    # ---- from the broker ----

    def _readable(self) -> None:
        try:
            message, fds = broker_wire.receive(self._end)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message, fds = None, []
        if message is None:
            self._end_of_broker()
            return
        self._handle(message, fds)

    def _handle(self, message: dict[str, Any], fds: list[int]) -> None:
        op, cookie = message["op"], int(message["cookie"])
        if op == "pod_del":
            self._forget(cookie)
            self._on_pod_gone(cookie)
            return
        family = int(message["family"])
        if op == "listener":
            self._on_listener(cookie, family, _socket_of(fds[0], family) if fds else None)
            return
        stock = self._stocks.get((cookie, family))
        if stock is None:  # the pod left while they were on their way
            for fd in fds:
                os.close(fd)
            return
        stock.asked = False
        if op == "sockets" and not fds:  # the kernel cut them off: we have no descriptors left
            self._fail(stock, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        elif op == "sockets":
            self._fill((cookie, family), stock, [_socket_of(fd, family) for fd in fds])
        else:
            self._fail(stock, OSError(int(message["errno"]), os.strerror(int(message["errno"]))))

    def _fill(self, key: Key, stock: _Stock, made: list[socket.socket]) -> None:
        stock.at_hand.extend(made)
        self._size += len(made)
        self._hand_out(key)

    def _hand_out(self, key: Key) -> None:
        """To those who wait, a few at once: each connects and sends, and other pods' connections wait meanwhile."""
        stock = self._stocks.get(key)
        if stock is None:
            return
        for _ in range(AT_ONCE):
            if not stock.waiting or not stock.at_hand:
                break
            self._size -= 1
            stock.waiting.popleft()(stock.at_hand.popleft())
        if stock.waiting and stock.at_hand:
            self._loop.call_soon(self._hand_out, key)
        elif stock.waiting and not stock.asked:
            self._ask(key, stock)

    def _fail(self, stock: _Stock, error: OSError) -> None:
        waiting, stock.waiting = stock.waiting, deque()
        for ready in waiting:
            ready(error)

    def _forget(self, cookie: int) -> None:
        for key in [key for key in self._stocks if key[0] == cookie]:
            stock = self._stocks.pop(key)
            self._empty(stock)
            self._fail(stock, OSError(errno.ENETDOWN, "the pod is gone"))

    def _empty(self, stock: _Stock) -> None:
        self._size -= len(stock.at_hand)
        while stock.at_hand:
            stock.at_hand.popleft().close()

    def _end_of_broker(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._end)
        for stock in self._stocks.values():
            self._fail(stock, OSError(errno.EPIPE, "the broker is gone"))
        self._on_end()

    def close(self) -> None:
        """Let go of what is at hand; who still waits hears nothing more."""
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._end)
        for stock in self._stocks.values():
            self._empty(stock)
        self._stocks.clear()

    # ---- time ----

    def tick(self, now: float) -> None:
        """Close what has been quiet, ask again where the broker was behind; `now` is the loop's time."""
        for key, stock in list(self._stocks.items()):
            if stock.waiting and not stock.asked:
                self._ask(key, stock)
            elif not stock.asked and not stock.waiting and stock.used < now - QUIET_SECONDS:
                self._empty(stock)
                del self._stocks[key]


def _socket_of(fd: int, family: int) -> socket.socket:
    """Told everything, Python asks the kernel nothing."""
    sock = socket.socket(FAMILIES[family], socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    sock.setblocking(False)
    return sock
