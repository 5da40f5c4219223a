"""A worker's end of its channel to the agent: commands in, reports out (see `frames`)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from nodeagent.proxy.frames import MAX_COMMAND, decode_command, encode_report, split_frames

MAX_UNSENT = 1024 * 1024
"""Bytes of reports held for an agent that does not read; events beyond are dropped and counted, the rest is small."""

ROUND = 16 * 1024
"""Bytes of commands, after which connections are served first; one more begins before they are reached."""


class AgentChannel(asyncio.Protocol):
    """`on_command(kind, payload)` gets each command, `on_end` the agent's end.

    A few small commands per round of the loop: connections are served between the parts of a big one.  While some
    wait, no more is read.
    """

    def __init__(self, on_command: Callable[[str, Any], None], on_end: Callable[[], None]) -> None:
        self._on_command = on_command
        self._on_end = on_end
        self._buffer = bytearray()
        self._waiting: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None

    async def open(self, end: socket.socket) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._waiting += split_frames(self._buffer, MAX_COMMAND)
        self._take_next()

    def _take_next(self) -> None:
        """A command that cannot be carried out ends the channel: what this worker does is not what the agent means."""
        try:
            taken = 0
            while self._waiting and taken < ROUND:
                taken += len(self._waiting[0])
                kind, payload = decode_command(self._waiting.popleft())
                self._on_command(kind, payload)
                if kind == "snapshot":  # what changes with it costs more than its bytes tell
                    break
        except Exception:
            if self._transport is not None:
                self._transport.abort()
            raise
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_next)
        if self._transport is not None:
            self._transport.pause_reading() if self._waiting else self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._on_end()

    def report(self, op: str, **fields: Any) -> None:
        if self._transport is not None:
            self._transport.write(encode_report({"op": op, **fields}))

    def event(self, event: dict[str, Any]) -> bool:
        """One record for observers; False when it was dropped because the agent is behind."""
        if self._transport is None or self._transport.get_write_buffer_size() > MAX_UNSENT:
            return False
        self._transport.write(encode_report(event))
        return True
