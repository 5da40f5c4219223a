"""The agent's end of its channel to one worker (the frames: nodeagent.proxy.frames)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from nodeagent.proxy.frames import FrameError, decode_report, split_frames


class ControlChannel(asyncio.Protocol):
    """The agent's end.  `on_report` gets each report, `on_broken` what was wrong with the framing."""

    def __init__(self, on_report: Callable[[dict[str, Any]], None], on_broken: Callable[[str], None]) -> None:
        self._on_report = on_report
        self._on_broken = on_broken
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    async def open(self, end: socket.socket) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            for frame in split_frames(self._buffer):
                self._on_report(decode_report(frame))
        except FrameError as error:
            self.close()
            self._on_broken(str(error))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        # EOF or a reset: the worker ended, and its pidfd says how.
        self._transport = None

    def send(self, frame: bytes) -> None:
        """Queue an encoded command; a channel that is gone takes nothing (its worker is being replaced)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
