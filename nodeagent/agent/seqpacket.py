"""JSON datagrams with descriptors over a SOCK_SEQPACKET socket, without blocking the loop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

MAX_DATAGRAM = 64 * 1024


class SeqPacketChannel:
    """`on_message` gets each decoded datagram (descriptors we are sent are none); `on_eof` its end."""

    def __init__(self, end: socket.socket, on_message: Callable[[dict[str, Any]], None], on_eof: Callable[[], None]):
        end.setblocking(False)
        self._end = end
        self._on_message = on_message
        self._on_eof = on_eof
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._loop.add_reader(end, self._readable)

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send in order.  `fds` are duplicated: the caller may close its own at once, though we may have to queue."""
        if self._closed:
            return
        copies = tuple(os.dup(fd) for fd in fds)
        self._queue.append((json.dumps(message, separators=(",", ":")).encode(), copies))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            try:
                socket.send_fds(self._end, [data], fds) if fds else self._end.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._end, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._eof()
                return
            self._queue.popleft()
            close_all(fds)
        self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        try:
            data = self._end.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if data:
            self._on_message(json.loads(data))
        else:
            self._eof()

    def _eof(self) -> None:
        if not self._closed:
            self.close()
            self._on_eof()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()
            while self._queue:
                close_all(self._queue.popleft()[1])


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
