"""Frames between the agent and one worker, on a stream socket pair.

Agent to worker: 4-byte big-endian length + pickle of (kind, payload).  Worker to agent: the same
length + JSON, because a worker parses hostile bytes and the agent is root: it never unpickles.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

LENGTH = struct.Struct("!I")
# A listing of all connections of one worker is the largest honest frame: 20,000 rows of ~200 bytes.
MAX_FRAME = 16 * 1024 * 1024


class FrameError(ValueError):
    """The other side broke the framing; the channel cannot be trusted any more."""


def encode_command(kind: str, payload: object) -> bytes:
    body = pickle.dumps((kind, payload), protocol=5)
    return LENGTH.pack(len(body)) + body


def encode_report(report: dict[str, Any]) -> bytes:
    body = json.dumps(report, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def split_frames(buffer: bytearray, limit: int = MAX_FRAME) -> list[bytes]:
    """Take all complete frames off the front of `buffer`; raises FrameError on an oversized one."""
    frames = []
    start = 0
    while len(buffer) - start >= LENGTH.size:
        (length,) = LENGTH.unpack_from(buffer, start)
        if length > limit:
            raise FrameError(f"a frame of {length} bytes; the limit is {limit}")
        end = start + LENGTH.size + length
        if len(buffer) < end:
            break
        frames.append(bytes(buffer[start + LENGTH.size : end]))
        start = end
    del buffer[:start]
    return frames


def decode_report(frame: bytes) -> dict[str, Any]:
    try:
        report = json.loads(frame)
    except ValueError as error:
        raise FrameError(f"a report that is not JSON: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("op"), str):
        raise FrameError("a report without an op")
    return report


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
