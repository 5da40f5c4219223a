"""Answers that the proxy gives itself: a status, `x-mesh-reason`, and one line of text."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


@lru_cache(maxsize=1024)
def reply(status: int, reason: str, detail: str, keep_alive: bool, is_head: bool, minor: int) -> bytes:
    """The whole response.  `minor` is the client's HTTP version: 1.0 must be told that the connection stays."""
    body = detail.encode("ascii", "replace") + b"\n"
    connection = (
        b"" if keep_alive and minor else b"connection: keep-alive\r\n" if keep_alive else b"connection: close\r\n"
    )
    head = b"HTTP/1.1 %d %b\r\nx-mesh-reason: %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n%b\r\n" % (
        status,
        _PHRASES.get(status, b"Refused"),
        reason.encode("ascii"),
        len(body),
        connection,
    )
    return head if is_head else head + body
