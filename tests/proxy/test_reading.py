"""What nodeagent.core.lines reads by itself, llhttp reads the same: never more, never otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodeagent.core import lines
from nodeagent.core.refusals import Refused
from nodeagent.proxy import http1
from tests.proxy.corpus.requests import ACCEPTED_REQUESTS, MALFORMED_REQUESTS
from tests.proxy.corpus.responses import BAD_RESPONSES, GOOD_RESPONSES

# Framing is judged after reading, from the fields, on both ways: these words come to the same refusal there.
LATER = ("content-length", "length-and-coding", "coding", "content-length-repeated", "coding-unknown")
FRAMING = {*LATER, *(f"upstream-{word}" for word in LATER)}

Reader = Callable[[bytes, int], tuple[Any, ...]]


def head_of(wire: bytes) -> bytes:
    return wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def holds_together(head: bytes, plain: object, parse: Reader, read: Reader) -> None:
    """If the head is plain, llhttp reads it equally, or refuses it for a framing that is judged later anyhow."""
    if plain is None:
        return
    try:
        expected = read(head, 1000)
    except Refused as refused:
        reason = refused.refusal.reason
        if reason not in FRAMING:
            raise AssertionError(f"llhttp refuses what lines reads ({reason}): {head!r}") from refused
        return
    assert parse(head, 1000) == expected


def request_holds(head: bytes) -> None:
    holds_together(head, lines.request_head(head), http1.parse_request, http1.read_request)


def response_holds(head: bytes) -> None:
    holds_together(head, lines.response_head(head), http1.parse_response, http1.read_response)


NAMES = st.sampled_from(
    [b"Host", b"X-A", b"content-length", b"Transfer-Encoding", b"x_y", b"A b", b"", b"\xe9", b"a:b"]
)
SPACE = st.sampled_from([b"", b" ", b"\t", b"  ", b"\v", b"\r", b"\n", b" \r\n "])
VALUES = st.one_of(
    st.sampled_from([b"shop", b"5", b"chunked", b"", b"a\0b", b"\x7f", b"\xff", b"a\rb"]), st.binary(max_size=12)
)
FIELD_LINES = st.lists(
    st.builds(lambda *parts: b"".join(parts), NAMES, SPACE, st.just(b":"), SPACE, VALUES, SPACE), max_size=4
)
REQUEST_LINES = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from([b"GET", b"POST", b"OPTIONS", b"get", b"PRI", b"BREW", b"CONNECT", b""]),
    st.sampled_from([b" ", b"  ", b"\t", b""]),
    st.one_of(
        st.sampled_from([b"/", b"*", b"/a?b#c", b"http://h/", b"/\xc3", b"/%zz", b"//", b"/[", b"/a|b"]),
        st.binary(max_size=9),
    ),
    st.sampled_from([b" ", b"", b"  "]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""]),
)
STATUS_LINES = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"ICE/1.1", b""]),
    st.sampled_from([b" ", b"  ", b""]),
    st.sampled_from([b"200", b"099", b"999", b"1000", b"20", b"2x0", b"101", b"000"]),
    st.sampled_from([b" ", b"", b"  "]),
    st.one_of(st.sampled_from([b"OK", b"", b"a\tb", b"\xe9", b"\x01", b"\x7f"]), st.binary(max_size=6)),
)


@given(REQUEST_LINES, FIELD_LINES)
@example(b"GET / HTTP/1.1", [b"Content-Length: 5", b"Content-Length: 5"])
@settings(max_examples=500)
def test_a_request_read_by_lines_is_read_so_by_llhttp(start: bytes, fields: list[bytes]) -> None:
    request_holds(b"\r\n".join([start, *fields, b"", b""]))


@given(STATUS_LINES, FIELD_LINES)
@settings(max_examples=500)
def test_a_response_read_by_lines_is_read_so_by_llhttp(start: bytes, fields: list[bytes]) -> None:
    response_holds(b"\r\n".join([start, *fields, b"", b""]))


@pytest.mark.parametrize("wire", [row.wire for row in ACCEPTED_REQUESTS] + [row.wire for row in MALFORMED_REQUESTS])
def test_requests_of_the_tables_are_read_alike(wire: bytes) -> None:
    request_holds(head_of(wire))


@pytest.mark.parametrize("wire", [row.wire for row in GOOD_RESPONSES] + [row.wire for row in BAD_RESPONSES])
def test_responses_of_the_tables_are_read_alike(wire: bytes) -> None:
    response_holds(head_of(wire))


def test_every_byte_in_every_place_of_a_head_is_read_alike() -> None:
    head = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-Y: z w\r\n\r\n"
    for at in range(len(head)):
        for byte in range(256):
            request_holds(head_of(head[:at] + bytes([byte]) + head[at + 1 :]))
            request_holds(head_of(head[:at] + bytes([byte]) + head[at:]))


def test_what_is_remembered_is_bounded_and_secrets_are_not_kept() -> None:
    for number in range(lines.MAX_LINES + 10):
        lines.request_head(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\nCookie: s=%d\r\n\r\n" % (number, number, number))
    assert len(lines._fields) <= lines.MAX_LINES
    assert len(lines._requests) <= lines.MAX_LINES
    assert not any(b"Cookie" in line for line in lines._fields)
