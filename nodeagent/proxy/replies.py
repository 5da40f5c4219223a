"""Answers that the proxy gives itself: a status, `x-mesh-reason`, and one line of text."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from nodeagent.core.fields import Fields, make_field
from nodeagent.core.filters import changed_fields
from nodeagent.core.model import Decision

_WITHOUT_LENGTH = frozenset({204, 304})
_WITHOUT_CONTENT = _WITHOUT_LENGTH | {205}
"""RFC 9110 15.3.5, 15.3.6, 15.4.5: what followed the head would be read as the next response.  Faults may have them."""
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def reply(
    status: int,
    reason: str,
    detail: str,
    keep_alive: bool,
    is_head: bool,
    minor: int,
    more: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The whole response.  `minor` is the client's HTTP version: 1.0 must be told that the connection stays.

    `more` fields are of this proxy or of a policy, and so are valid.
    """
    write = _written if not more or sum([len(value) for _, value in more]) <= _MAX_KEPT else _write
    return write(status, reason, detail, keep_alive, is_head, minor, more)


def _write(
    status: int,
    reason: str,
    detail: str,
    keep_alive: bool,
    is_head: bool,
    minor: int,
    more: tuple[tuple[str, str], ...],
) -> bytes:
    fields = b"x-mesh-reason: %b\r\ncontent-type: text/plain\r\n" % reason.encode("ascii")
    fields += b"".join(b"%b: %b\r\n" % (name.encode("ascii"), value.encode("utf-8")) for name, value in more)
    return _message(status, fields, detail, keep_alive, is_head, minor)


_MAX_KEPT = 512
"""More is not remembered: preflights say what a client asked for, and it would be kept outside of every budget."""
_written = lru_cache(maxsize=1024)(_write)


def redirection(decision: Decision, keep_alive: bool, is_head: bool, minor: int) -> bytes:
    """The whole response of a rule that redirects; the rule's other filters change its fields too."""
    fields: Fields = [
        make_field(b"x-mesh-reason", decision.reason.encode("ascii")),
        make_field(b"content-type", b"text/plain"),
    ]
    if decision.changes is not None and decision.changes.response is not None:
        fields = changed_fields(fields, decision.changes.response)
    others = [field for field in fields if field[2] != "location"]
    lines = b"".join(
        b"%b\r\n" % field[4] for field in (make_field(b"location", decision.location.encode("ascii")), *others)
    )
    return _message(decision.status, lines, decision.detail, keep_alive, is_head, minor)


def _message(status: int, fields: bytes, detail: str, keep_alive: bool, is_head: bool, minor: int) -> bytes:
    body = detail.encode("ascii", "replace") + b"\n" if status not in _WITHOUT_CONTENT else b""
    connection = (
        b"" if keep_alive and minor else b"connection: keep-alive\r\n" if keep_alive else b"connection: close\r\n"
    )
    length = b"content-length: %d\r\n" % len(body) if status not in _WITHOUT_LENGTH else b""
    head = b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (status, _PHRASES.get(status, b"Refused"), fields, length, connection)
    return head if is_head else head + body
