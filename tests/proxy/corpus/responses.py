"""Response tables: what a broken, dying or desynchronised upstream says, and what a client may see of it.

The three outcomes are all that is allowed.  Whichever it is, the upstream connection carries no further request,
and the client's next request is answered with its own answer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """What the client sees."""

    BAD_GATEWAY = "502"  # the fault is in the head (or the whole message was at hand): nothing of it is passed on
    BROKEN_OFF = "502, or a message that visibly lacks its end"  # the head may have gone out before the fault came
    ITS_OWN_PART = "the response up to its proper end; what follows is thrown away"


class End(enum.Enum):
    """What the upstream does after its bytes."""

    KEEP = "waits for another request"
    FIN = "closes"
    RESET = "resets"


@dataclass(frozen=True, slots=True)
class BadResponse:
    """`late` is sent on the same connection 50 ms after `wire`: unsolicited bytes on an idle connection."""

    name: str
    wire: bytes
    outcome: Outcome
    section: str
    end: End = End.KEEP
    method: bytes = b"GET"
    version: bytes = b"HTTP/1.1"
    late: bytes = b""
    status: int = 200  # with ITS_OWN_PART
    body: bytes = b"hello"  # with ITS_OWN_PART


OK = b"HTTP/1.1 200 OK\r\n"
EVIL = OK + b"Content-Length: 4\r\n\r\nEVIL"


def answer(*lines: bytes, body: bytes = b"hello", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response with CRLF line ends; `lines` are field lines without their ends."""
    return first + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def status_line(line: bytes) -> bytes:
    return answer(CL, first=line)


def chunks(framing: bytes) -> bytes:
    return answer(TE, body=framing)


CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"
_CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
BAD, CUT, OWN = Outcome.BAD_GATEWAY, Outcome.BROKEN_OFF, Outcome.ITS_OWN_PART

_STATUS = "4: status-line = HTTP-version SP 3DIGIT SP [reason]"
_LENGTH = "6.3 (5): an invalid length from upstream: 502 and close"
_BOTH = "6.3 (3): both lengths"
_CODING = "6.1, 6.3 (4): transfer coding"
_CRLF = "2.2: lines end in CRLF"
_FOLD = "5.2: obs-fold in a response: 502"
_NAME = "5.1, 9110 5.1: field-name = token"
_VALUE = "9110 5.5: no control in a field value"
_CHUNK = "7.1: chunk"
_SHORT = "8: a message that ends early is incomplete"
_EXTRA = "9.2, 9.3: bytes that answer no request make a connection unusable"
_LIMIT = "9110 2.3: protocol element length limits"

STATUS_LINES = (
    BadResponse("status-garbage", b"HELLO\r\n\r\n", BAD, _STATUS),
    BadResponse("status-http-0.9", b"<html>hello</html>\n", BAD, _STATUS, End.FIN),
    BadResponse("status-version-2", status_line(b"HTTP/2.0 200 OK"), BAD, "2.3: another major version"),
    BadResponse("status-version-0.9", status_line(b"HTTP/0.9 200 OK"), BAD, "2.3: another major version"),
    BadResponse("status-version-1", status_line(b"HTTP/1 200 OK"), BAD, _STATUS),
    BadResponse("status-version-case", status_line(b"http/1.1 200 OK"), BAD, _STATUS),
    BadResponse("status-other-protocol", status_line(b"ICY 200 OK"), BAD, _STATUS),
    BadResponse("status-two-digits", status_line(b"HTTP/1.1 20 OK"), BAD, _STATUS),
    BadResponse("status-four-digits", status_line(b"HTTP/1.1 2000 OK"), BAD, _STATUS),
    BadResponse("status-letters", status_line(b"HTTP/1.1 2xx OK"), BAD, _STATUS),
    BadResponse("status-below-100", status_line(b"HTTP/1.1 099 OK"), BAD, "9110 15: codes are 100 to 599"),
    BadResponse("status-no-code", status_line(b"HTTP/1.1 OK"), BAD, _STATUS),
    BadResponse("status-two-spaces", status_line(b"HTTP/1.1  200 OK"), BAD, _STATUS),
    BadResponse("status-leading-space", status_line(b" HTTP/1.1 200 OK"), BAD, _STATUS),
    BadResponse("status-nul-in-reason", status_line(b"HTTP/1.1 200 O\0K"), BAD, _STATUS),
    BadResponse("status-cr-in-reason", status_line(b"HTTP/1.1 200 O\rSet-Cookie: a=b"), BAD, _STATUS),
    BadResponse("status-twice", OK + status_line(b"HTTP/1.1 200 OK"), BAD, _NAME),
    BadResponse("status-request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, _STATUS),
)

LENGTHS = (
    BadResponse("both-cl-first", answer(CL, TE, body=_CHUNKED), BAD, _BOTH),
    BadResponse("both-te-first", answer(TE, CL, body=_CHUNKED), BAD, _BOTH),
    BadResponse("both-zero-length", answer(b"Content-Length: 0", TE, body=_CHUNKED), BAD, _BOTH),
    BadResponse("length-twice-different", answer(CL, b"Content-Length: 6"), BAD, _LENGTH),
    BadResponse("length-twice-equal", answer(CL, CL), BAD, _LENGTH),
    BadResponse("length-list-equal", answer(b"Content-Length: 5, 5"), BAD, _LENGTH),
    BadResponse("length-list-different", answer(b"Content-Length: 5, 6"), BAD, _LENGTH),
    BadResponse("length-plus", answer(b"Content-Length: +5"), BAD, _LENGTH),
    BadResponse("length-negative", answer(b"Content-Length: -5"), BAD, _LENGTH),
    BadResponse("length-hex", answer(b"Content-Length: 0x5"), BAD, _LENGTH),
    BadResponse("length-empty", answer(b"Content-Length:"), BAD, _LENGTH),
    BadResponse("length-underscore", answer(b"Content-Length: 0_5"), BAD, _LENGTH),
    BadResponse("length-2-to-the-64", answer(b"Content-Length: 18446744073709551621"), BAD, _LENGTH),
    BadResponse("coding-chunked-twice", answer(b"Transfer-Encoding: chunked, chunked", body=_CHUNKED), BAD, _CODING),
    BadResponse("coding-two-fields", answer(TE, TE, body=_CHUNKED), BAD, _CODING),
    BadResponse("coding-not-last", answer(b"Transfer-Encoding: chunked, identity", body=_CHUNKED), BAD, _CODING),
    BadResponse("coding-unknown", answer(b"Transfer-Encoding: xchunked", body=_CHUNKED), BAD, _CODING),
    BadResponse("coding-vertical-tab", answer(b"Transfer-Encoding: \x0bchunked", body=_CHUNKED), BAD, _CODING),
    BadResponse("coding-in-http-1.0", answer(TE, body=_CHUNKED, first=b"HTTP/1.0 200 OK"), BAD, _CODING),
)

FIELDS = (
    BadResponse("fold", answer(CL, b"X-A: 1\r\n 2"), BAD, _FOLD),
    BadResponse("fold-length", answer(b"Content-Length:\r\n 5"), BAD, _FOLD),
    BadResponse("space-before-first-field", answer(b" X-A: 1", CL), BAD, _FOLD),
    BadResponse("name-space-before-colon", answer(CL, b"X-A : 1"), BAD, _NAME),
    BadResponse("name-length-space", answer(b"Content-Length : 5"), BAD, _NAME),
    BadResponse("name-empty", answer(CL, b": 1"), BAD, _NAME),
    BadResponse("name-no-colon", answer(CL, b"garbage"), BAD, _NAME),
    BadResponse("name-nul", answer(CL, b"X\0A: 1"), BAD, _NAME),
    BadResponse("name-non-ascii", answer(CL, b"X-\xc3\xa9: 1"), BAD, _NAME),
    BadResponse("value-nul", answer(CL, b"X-A: 1\x002"), BAD, _VALUE),
    BadResponse("value-control", answer(CL, b"X-A: 1\x012"), BAD, _VALUE),
    BadResponse("value-bare-cr", answer(CL, b"X-A: 1\rSet-Cookie: a=b"), BAD, _CRLF),
    BadResponse("lf-everywhere", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", BAD, _CRLF),
    BadResponse("lf-field-line", b"HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 5\r\n\r\nhello", BAD, _CRLF),
    BadResponse("lf-blank-line", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", BAD, _CRLF),
    BadResponse("limit-101-fields", answer(CL, *[b"X-%d: 1" % i for i in range(100)]), BAD, _LIMIT),
    BadResponse("limit-65-kb-head", answer(CL, b"X-A: " + b"a" * 65_600), BAD, _LIMIT),
    BadResponse("limit-65-kb-reason", status_line(b"HTTP/1.1 200 " + b"a" * 65_600), BAD, _LIMIT),
)

BODIES = (
    BadResponse("short-length-fin", answer(b"Content-Length: 10"), CUT, _SHORT, End.FIN),
    BadResponse("short-length-reset", answer(b"Content-Length: 10"), CUT, _SHORT, End.RESET),
    BadResponse("short-length-none", answer(b"Content-Length: 10", body=b""), CUT, _SHORT, End.FIN),
    BadResponse(
        "short-length-http-1.0-client", answer(b"Content-Length: 10"), CUT, _SHORT, End.FIN, version=b"HTTP/1.0"
    ),
    BadResponse("short-head-fin", OK + b"Content-Le", BAD, _SHORT, End.FIN),
    BadResponse("short-head-reset", OK + b"Content-Le", BAD, _SHORT, End.RESET),
    BadResponse("nothing-fin", b"", BAD, _SHORT, End.FIN, method=b"POST"),
    BadResponse("nothing-reset", b"", BAD, _SHORT, End.RESET, method=b"POST"),
    BadResponse("nothing-fin-get", b"", BAD, _SHORT, End.FIN),
    BadResponse("nothing-reset-get", b"", BAD, _SHORT, End.RESET),
    BadResponse("until-close-reset", answer(), CUT, _SHORT, End.RESET),
    BadResponse("until-close-reset-http-1.0-client", answer(), CUT, _SHORT, End.RESET, version=b"HTTP/1.0"),
    BadResponse("short-chunked-in-data", chunks(b"a\r\nhello"), CUT, _SHORT, End.FIN),
    BadResponse("short-chunked-in-size", chunks(b"5\r\nhello\r\n1"), CUT, _SHORT, End.FIN),
    BadResponse("short-chunked-after-chunk", chunks(b"5\r\nhello\r\n"), CUT, _SHORT, End.FIN),
    BadResponse("short-chunked-no-last-line", chunks(b"5\r\nhello\r\n0\r\n"), CUT, _SHORT, End.FIN),
    BadResponse("short-chunked-in-trailer", chunks(b"5\r\nhello\r\n0\r\nX-T: 1\r\n"), CUT, _SHORT, End.FIN),
    BadResponse("short-chunked-reset", chunks(b"5\r\nhello\r\n"), CUT, _SHORT, End.RESET),
    BadResponse("short-chunked-http-1.0-client", chunks(b"5\r\nhello\r\n"), CUT, _SHORT, End.FIN, version=b"HTTP/1.0"),
    BadResponse("chunk-0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-negative", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-leading-space", chunks(b" 5\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-empty-size", chunks(b"\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-20-digits", chunks(b"fffffffffffffffffff5\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-control-in-extension", chunks(b"5;\x01\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-cr-in-extension", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-lf-size-line", chunks(b"5\nhello\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-lf-after-data", chunks(b"5\r\nhello\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-longer-than-said", chunks(b"5\r\nhello!\r\n0\r\n\r\n"), CUT, _CHUNK),
    BadResponse("chunk-lf-end", chunks(b"5\r\nhello\r\n0\r\n\n"), CUT, _CHUNK),
    BadResponse("chunk-bad-http-1.0-client", chunks(b"5\r\nhello\r\nz\r\n"), CUT, _CHUNK, version=b"HTTP/1.0"),
    BadResponse("trailer-no-colon", chunks(b"5\r\nhello\r\n0\r\ngarbage\r\n\r\n"), CUT, "7.1.2: trailer"),
    BadResponse("trailer-fold", chunks(b"5\r\nhello\r\n0\r\nX-T: 1\r\n 2\r\n\r\n"), CUT, "7.1.2: trailer"),
    BadResponse("trailer-control", chunks(b"5\r\nhello\r\n0\r\nX-T: \x01\r\n\r\n"), CUT, "7.1.2: trailer"),
    BadResponse("trailer-flood", chunks(b"5\r\nhello\r\n0\r\n" + b"X-T: 1\r\n" * 9_000 + b"\r\n"), CUT, _LIMIT),
)

_NO_BODY = "6.3 (1): this response ends with its head, whatever its fields say"
_EMPTY = answer(body=b"", first=b"HTTP/1.1 204 No Content")
DESYNCS = (
    BadResponse("extra-bytes-after-length", answer(CL, body=b"helloEXTRA"), OWN, _EXTRA),
    BadResponse("extra-response-after-length", answer(CL) + EVIL, OWN, _EXTRA),
    BadResponse("extra-newline-after-length", answer(CL, body=b"hello\r\n"), OWN, _EXTRA),
    BadResponse("extra-response-after-chunked", chunks(_CHUNKED) + EVIL, OWN, _EXTRA),
    BadResponse("extra-response-after-empty", answer(b"Content-Length: 0", body=b"") + EVIL, OWN, _EXTRA, body=b""),
    BadResponse("extra-response-after-204", _EMPTY + EVIL, OWN, _EXTRA, status=204, body=b""),
    BadResponse("extra-response-after-head", answer(CL, body=b"") + EVIL, OWN, _EXTRA, method=b"HEAD", body=b""),
    BadResponse("late-response-after-length", answer(CL), OWN, _EXTRA, late=EVIL),
    BadResponse("late-bytes-after-length", answer(CL), OWN, _EXTRA, late=b"x"),
    BadResponse("late-response-after-chunked", chunks(_CHUNKED), OWN, _EXTRA, late=EVIL),
    BadResponse(
        "late-408",
        answer(CL),
        OWN,
        _EXTRA,
        late=answer(b"Content-Length: 0", body=b"", first=b"HTTP/1.1 408 Request Timeout"),
    ),
    BadResponse("body-on-head", answer(CL), OWN, _NO_BODY, method=b"HEAD", body=b""),
    BadResponse("chunked-body-on-head", chunks(_CHUNKED), OWN, _NO_BODY, method=b"HEAD", body=b""),
    BadResponse("body-on-304", answer(CL, first=b"HTTP/1.1 304 Not Modified"), OWN, _NO_BODY, status=304, body=b""),
    BadResponse("unsaid-body-on-204", _EMPTY + b"hello", OWN, _NO_BODY, status=204, body=b""),
    BadResponse(
        "length-and-body-on-204", answer(CL, first=b"HTTP/1.1 204 No Content"), OWN, _NO_BODY, status=204, body=b""
    ),
    BadResponse(
        "chunked-body-on-204",
        answer(TE, body=_CHUNKED, first=b"HTTP/1.1 204 No Content"),
        OWN,
        _NO_BODY,
        status=204,
        body=b"",
    ),
    BadResponse("close-then-more", answer(CL, b"Connection: close") + EVIL, OWN, "9.6: nothing counts after close"),
    BadResponse(
        "interim-with-body", answer(CL, first=b"HTTP/1.1 100 Continue") + EVIL, CUT, "9110 15.2: 1xx ends with its head"
    ),
    BadResponse(
        "interim-flood",
        answer(body=b"", first=b"HTTP/1.1 103 Early Hints") * 5_000 + EVIL,
        CUT,
        "9110 15.2: 1xx need a bound",
    ),
    BadResponse("interim-only", answer(body=b"", first=b"HTTP/1.1 103 Early Hints"), CUT, _SHORT, End.FIN),
    BadResponse(
        "switch-unasked",
        answer(b"Connection: upgrade", b"Upgrade: x", body=b"EVIL", first=b"HTTP/1.1 101 Switching Protocols"),
        BAD,
        "9110 7.8: only to what the client asked for",
    ),
)

BAD_RESPONSES: tuple[BadResponse, ...] = (*STATUS_LINES, *LENGTHS, *FIELDS, *BODIES, *DESYNCS)


@dataclass(frozen=True, slots=True)
class GoodResponse:
    """A response that must reach the client as `status`, `body`, `trailers`, after the `interim` codes."""

    name: str
    wire: bytes
    section: str
    status: int = 200
    body: bytes = b"hello"
    method: bytes = b"GET"
    end: End = End.KEEP
    interim: tuple[int, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()


_HINTS = answer(b"Link: </a.css>; rel=preload", body=b"", first=b"HTTP/1.1 103 Early Hints")
GOOD_RESPONSES = (
    GoodResponse("length", answer(CL), "6.3 (6)"),
    GoodResponse("length-zero", answer(b"Content-Length: 0", body=b""), "6.3 (6)", body=b""),
    GoodResponse("length-zero-padded", answer(b"Content-Length: 0005"), "9110 8.6"),
    GoodResponse("length-spaces", answer(b"Content-Length:\t 5 "), "5: OWS"),
    GoodResponse("chunked", chunks(_CHUNKED), "7.1"),
    GoodResponse("chunked-case", answer(b"transfer-encoding: CHUNKED", body=_CHUNKED), "7"),
    GoodResponse("chunked-pieces", chunks(b"1\r\nh\r\n002\r\nel\r\n2\r\nlo\r\n00\r\n\r\n"), "7.1"),
    GoodResponse("chunked-extensions", chunks(b'5;a="b c";d\r\nhello\r\n0;e\r\n\r\n'), "7.1.1"),
    GoodResponse(
        "chunked-trailers",
        answer(TE, b"Trailer: X-T", body=b"5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"),
        "7.1.2",
        trailers=((b"x-t", b"1"), (b"x-u", b"2")),
    ),
    GoodResponse("until-close", answer(), "6.3 (8)", end=End.FIN),
    GoodResponse("until-close-said", answer(b"Connection: close"), "6.3 (8)", end=End.FIN),
    GoodResponse("http-1.0", answer(CL, first=b"HTTP/1.0 200 OK"), "2.3", end=End.FIN),
    GoodResponse("http-1.0-until-close", answer(first=b"HTTP/1.0 200 OK"), "6.3 (8)", end=End.FIN),
    GoodResponse("http-1.0-keep-alive", answer(CL, b"Connection: keep-alive", first=b"HTTP/1.0 200 OK"), "9.3"),
    GoodResponse("empty-reason", answer(CL, first=b"HTTP/1.1 200 "), "4: the reason may be empty"),
    GoodResponse("obs-text-in-reason", answer(CL, first=b"HTTP/1.1 200 caf\xc3\xa9"), "4"),
    GoodResponse("unknown-code", answer(CL, first=b"HTTP/1.1 599 Odd"), "9110 15", status=599),
    GoodResponse("obs-text-in-value", answer(CL, b"X-A: \xff\xe9"), "9110 5.5"),
    GoodResponse("head", answer(CL, body=b""), "6.3 (1)", method=b"HEAD", body=b""),
    GoodResponse("head-chunked", answer(TE, body=b""), "6.3 (1)", method=b"HEAD", body=b""),
    GoodResponse("head-without-length", answer(body=b""), "6.3 (1)", method=b"HEAD", body=b""),
    GoodResponse("no-content", _EMPTY, "6.3 (1)", status=204, body=b""),
    GoodResponse("not-modified", answer(CL, body=b"", first=b"HTTP/1.1 304 No"), "6.3 (1)", status=304, body=b""),
    GoodResponse("early-hints", _HINTS + answer(CL), "9110 15.2", interim=(103,)),
    GoodResponse("early-hints-twice", _HINTS + _HINTS + chunks(_CHUNKED), "9110 15.2", interim=(103, 103)),
    GoodResponse("close", answer(CL, b"Connection: close"), "9.6", end=End.FIN),
    GoodResponse("fields-100", answer(CL, *[b"X-%d: 1" % i for i in range(99)]), "6585 5"),
    GoodResponse("set-cookie-twice", answer(CL, b"Set-Cookie: a=1", b"Set-Cookie: b=2"), "9110 5.3"),
)
