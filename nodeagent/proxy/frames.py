"""Frames between the agent and one worker, on a stream socket pair.

Agent to worker: 4-byte big-endian length + pickle of (kind, payload).  Worker to agent: the same
length + JSON, because a worker parses hostile bytes and the agent is root: it never unpickles.
"""

from __future__ import annotations

import json
import pickle
import struct
from typing import Any

LENGTH = struct.Struct("!I")
# A listing of all connections of one worker is the largest honest report: 20,000 rows of ~200 bytes.
MAX_FRAME = 16 * 1024 * 1024
# A part of an update holds up to 1,000 destinations (nodeagent.proxy.updates); one with 5,000 rules is 0.2 MB.
MAX_COMMAND = 1024 * 1024 * 1024


class FrameError(ValueError):
    """The other side broke the framing; the channel cannot be trusted any more."""


def encode_command(kind: str, payload: object) -> bytes:
    body = pickle.dumps((kind, payload), protocol=5)
    return LENGTH.pack(len(body)) + body


def decode_command(frame: bytes) -> tuple[str, Any]:
    """In a worker only: the agent, which is root, is trusted there."""
    kind, payload = pickle.loads(frame)  # noqa: S301 - see above
    return str(kind), payload


def encode_report(report: dict[str, Any]) -> bytes:
    body = json.dumps(report, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def decode_report(frame: bytes) -> dict[str, Any]:
    try:
        report = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a report that is not JSON: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("op"), str):
        raise FrameError("a report without an op")
    return report


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
