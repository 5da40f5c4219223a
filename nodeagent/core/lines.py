"""The plain majority of HTTP/1 heads, read line by line.

Most lines of most heads have been seen before: a host, a content type, a user agent.  So a line is split, judged
and classified once, and looked up from then on.  What is accepted here is a subset of what llhttp accepts, with
the same reading (tests/core/test_lines.py and tests/proxy/test_reading.py hold them together); for everything
else the answer is None, and llhttp decides.

    request-line = method SP "/"... SP "HTTP/1." DIGIT      RFC 9112 3
    status-line  = "HTTP/1." DIGIT SP 3DIGIT SP [phrase]    RFC 9112 4
    field-line   = token ":" OWS value OWS                  RFC 9112 5
"""

from __future__ import annotations

import re
from typing import TypeVar

from nodeagent.core.fields import SECRET, Field, make_field

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_REQUEST = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS) (/[A-Za-z0-9/._~!$&'()*+,;=:@%?-]*) HTTP/1\.([01])"
)
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")

MAX_LINES = 4096
MAX_LINE = 256
"""Longer lines are read each time: they rarely repeat, and memory stays below 4 MB."""

Read = TypeVar("Read")
RequestLine = tuple[str, bytes, int]  # method, target, minor version
StatusLine = tuple[int, bytes, int]  # status, phrase, minor version

MAX_SEEN = 16384

_seen: set[int] = set()  # hashes of lines that came once
_fields: dict[bytes, Field] = {}
_requests: dict[bytes, RequestLine] = {}
_statuses: dict[bytes, StatusLine] = {}


def request_head(head: bytes) -> tuple[RequestLine, list[Field]] | None:
    """A head that ends at its first empty line; None = not plain."""
    lines = head.split(b"\r\n")
    start = _requests.get(lines[0]) or _read_request_line(lines[0])
    if start is None:
        return None
    fields = _read_fields(lines)
    return None if fields is None else (start, fields)


def response_head(head: bytes) -> tuple[StatusLine, list[Field]] | None:
    lines = head.split(b"\r\n")
    start = _statuses.get(lines[0]) or _read_status_line(lines[0])
    if start is None:
        return None
    fields = _read_fields(lines)
    return None if fields is None else (start, fields)


def _read_fields(lines: list[bytes]) -> list[Field] | None:
    """Of all lines between the first and the two empty ones that end a head."""
    known = _fields
    found = []
    for line in lines[1:-2]:
        field = known.get(line) or _read_field(line)
        if field is None:
            return None
        found.append(field)
    return found


def _read_field(line: bytes) -> Field | None:
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    field = make_field(match[1], match[2].strip(b" \t"))
    if _came_before(line) and field[2] not in SECRET:
        _remember(_fields, line, field)
    return field


def _read_request_line(line: bytes) -> RequestLine | None:
    match = _REQUEST.fullmatch(line)
    if match is None:
        return None
    start = (match[1].decode("ascii"), match[2], 1 if match[3] == b"1" else 0)
    if _came_before(line):
        _remember(_requests, line, start)
    return start


def _read_status_line(line: bytes) -> StatusLine | None:
    match = _STATUS.fullmatch(line)
    if match is None or match[2] == b"101":  # switching protocols: llhttp wants to see an Upgrade
        return None
    start = (int(match[2]), match[3], 1 if match[1] == b"1" else 0)
    if _came_before(line):
        _remember(_statuses, line, start)
    return start


def _came_before(line: bytes) -> bool:
    """Ids, traces and dates never come again: a line is kept from the second time on, and not if it is long."""
    mark = hash(line)
    if mark in _seen:
        return len(line) <= MAX_LINE
    if len(_seen) >= MAX_SEEN:
        _seen.clear()
    _seen.add(mark)
    return False


def _remember(known: dict[bytes, Read], line: bytes, read: Read) -> None:
    """Full = start anew: cheaper than keeping an order, and what repeats is back at once."""
    if len(known) >= MAX_LINES:
        known.clear()
    known[line] = read
