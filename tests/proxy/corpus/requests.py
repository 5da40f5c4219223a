"""Request tables.  Each row names the section that decides it: RFC 9112 unless it says 9110, 3986 or 6585.

`wire` is everything the client sends for this message.  `in_body` rows have a good head: an intermediary that
streams may have forwarded that head before it meets the fault, so for them the rule is that the upstream never
sees a *complete* request, while for all others it never sees a byte.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MalformedRequest:
    """A request that must be answered with `status` (or one of `also`, where the RFC leaves the choice) and a close."""

    name: str
    wire: bytes
    status: int
    section: str
    in_body: bool = False
    also: tuple[int, ...] = ()

    @property
    def statuses(self) -> tuple[int, ...]:
        return (self.status, *self.also)


@dataclass(frozen=True, slots=True)
class TolerableRequest:
    """A request that the RFC lets a recipient refuse (400) or read in exactly one way: `method`, `target`, `body`."""

    name: str
    wire: bytes
    section: str
    method: bytes
    target: bytes
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """A request that must reach the upstream once, as `method`, `target`, `host`, `body`."""

    name: str
    wire: bytes
    section: str
    method: bytes
    target: bytes
    host: bytes = b"shop"
    body: bytes = b""


def head(*lines: bytes, request_line: bytes = b"POST /x HTTP/1.1", host: bytes = b"Host: shop\r\n") -> bytes:
    """A request head with CRLF line ends; `lines` are field lines without their ends."""
    return request_line + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A chunked request; `body` is the raw chunked framing."""
    return head(b"Transfer-Encoding: chunked", *lines) + body


def length(value: bytes, body: bytes = b"hello") -> bytes:
    return head(b"Content-Length:" + value) + body


def coding(*lines: bytes) -> bytes:
    """A request whose Transfer-Encoding is odd, with a body that is right if it is read as chunked."""
    return head(*lines) + b"5\r\nhello\r\n0\r\n\r\n"


def field(line: bytes) -> bytes:
    return head(line, request_line=b"GET /x HTTP/1.1")


def first(line: bytes) -> bytes:
    return head(request_line=line)


def host(value: bytes) -> bytes:
    return head(request_line=b"GET /x HTTP/1.1", host=b"Host:" + value + b"\r\n")


CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"

_BOTH = "6.3 (3): both lengths is an attempt at smuggling"
_LENGTH = "6.3 (5), 9110 8.6: Content-Length = 1*DIGIT"
_CODING = "6.3 (4): the final coding of a request must be chunked"
_FOLD = "5.2: obs-fold"
_CRLF = "2.2: a line ends in CRLF; a bare CR makes an element invalid, a bare LF may be refused"
_NAME = "5.1, 9110 5.1: field-name = token, no space before the colon"
_VALUE = "9110 5.5: no CR, LF, NUL or other control in a field value"
_LINE = "3: request-line = method SP request-target SP HTTP-version"
_TARGET = "3.2: the request-target has no whitespace, control or non-ASCII byte"
_VERSION = "2.3, 9110 15.6.6: HTTP-version"
_HOST = "3.2, 9110 7.2: exactly one valid Host"
_CHUNK = "7.1: chunk = 1*HEXDIG [chunk-ext] CRLF chunk-data CRLF"
_TRAILER = "7.1.2: a trailer is a field line like any other"
_LIMIT = "6585 5: 431 for fields that are too large"

LENGTHS = (
    MalformedRequest("both-cl-first", coding(CL, TE), 400, _BOTH),
    MalformedRequest("both-te-first", coding(TE, CL), 400, _BOTH),
    MalformedRequest("both-odd-case", coding(b"cONTENT-lENGTH: 5", b"TRANSFER-ENCODING: CHUNKED"), 400, _BOTH),
    MalformedRequest("both-zero-length", coding(b"Content-Length: 0", TE), 400, _BOTH),
    MalformedRequest("both-apart", coding(CL, b"X-Between: 1", TE), 400, _BOTH),
    MalformedRequest("both-with-identity", coding(CL, b"Transfer-Encoding: identity"), 400, _BOTH),
    MalformedRequest("length-twice-equal", head(CL, CL) + b"hello", 400, _LENGTH),
    MalformedRequest("length-twice-different", head(CL, b"Content-Length: 6") + b"hello", 400, _LENGTH),
    MalformedRequest("length-twice-case", head(CL, b"content-length: 0") + b"hello", 400, _LENGTH),
    MalformedRequest("length-list-equal", length(b" 5, 5"), 400, _LENGTH),
    MalformedRequest("length-list-different", length(b" 5,6"), 400, _LENGTH),
    MalformedRequest("length-plus", length(b" +5"), 400, _LENGTH),
    MalformedRequest("length-negative", length(b" -5"), 400, _LENGTH),
    MalformedRequest("length-hex", length(b" 0x5"), 400, _LENGTH),
    MalformedRequest("length-hex-digits", length(b" a"), 400, _LENGTH),
    MalformedRequest("length-inner-space", length(b" 5 5"), 400, _LENGTH),
    MalformedRequest("length-empty", length(b""), 400, _LENGTH),
    MalformedRequest("length-blank", length(b" \t "), 400, _LENGTH),
    MalformedRequest("length-decimal", length(b" 5.0"), 400, _LENGTH),
    MalformedRequest("length-exponent", length(b" 5e0"), 400, _LENGTH),
    MalformedRequest("length-underscore", length(b" 0_5"), 400, _LENGTH),
    MalformedRequest("length-arabic-digit", length(b" \xd9\xa5"), 400, _LENGTH),
    MalformedRequest("length-vertical-tab", length(b" \x0b5"), 400, _LENGTH),
    MalformedRequest("length-2-to-the-64", length(b" 18446744073709551621"), 400, _LENGTH, also=(413,)),
    MalformedRequest("length-40-digits", length(b" " + b"9" * 40), 400, _LENGTH, also=(413,)),
    MalformedRequest("length-quoted", length(b' "5"'), 400, _LENGTH),
)

CODINGS = (
    MalformedRequest("coding-xchunked", coding(b"Transfer-Encoding: xchunked"), 400, _CODING, also=(501,)),
    MalformedRequest("coding-identity", coding(b"Transfer-Encoding: identity"), 400, _CODING, also=(501,)),
    MalformedRequest("coding-chunked-twice", coding(b"Transfer-Encoding: chunked, chunked"), 400, "6.1: chunked once"),
    MalformedRequest("coding-two-fields", coding(TE, TE), 400, "6.1: chunked once"),
    MalformedRequest(
        "coding-chunked-not-last", coding(b"Transfer-Encoding: chunked, identity"), 400, _CODING, also=(501,)
    ),
    MalformedRequest(
        "coding-chunked-then-gzip", coding(b"Transfer-Encoding: chunked, gzip"), 400, _CODING, also=(501,)
    ),
    MalformedRequest("coding-second-field", coding(TE, b"Transfer-Encoding: identity"), 400, _CODING, also=(501,)),
    MalformedRequest(
        "coding-unknown-before",
        coding(b"Transfer-Encoding: br, chunked"),
        501,
        "6.1: an unknown coding: 501",
        also=(400,),
    ),
    MalformedRequest(
        "coding-parameter", coding(b"Transfer-Encoding: chunked;q=1"), 400, "7: chunked has no parameters", also=(501,)
    ),
    MalformedRequest("coding-quoted", coding(b'Transfer-Encoding: "chunked"'), 400, _CODING, also=(501,)),
    MalformedRequest("coding-empty", coding(b"Transfer-Encoding:"), 400, _CODING, also=(501,)),
    MalformedRequest("coding-vertical-tab", coding(b"Transfer-Encoding: \x0bchunked"), 400, _VALUE),
    MalformedRequest("coding-nul", coding(b"Transfer-Encoding: chunked\0"), 400, _VALUE),
    MalformedRequest(
        "coding-space-separated", coding(b"Transfer-Encoding: identity chunked"), 400, _CODING, also=(501,)
    ),
    MalformedRequest("coding-folded", coding(b"Transfer-Encoding:\r\n chunked"), 400, _FOLD),
    MalformedRequest("coding-folded-tab", coding(b"Transfer-Encoding: gzip,\r\n\tchunked"), 400, _FOLD),
    MalformedRequest("coding-space-before-colon", coding(b"Transfer-Encoding : chunked"), 400, _NAME),
    MalformedRequest(
        "coding-in-http-1.0",
        head(TE, request_line=b"POST /x HTTP/1.0") + b"5\r\nhello\r\n0\r\n\r\n",
        400,
        "6.1: Transfer-Encoding in HTTP/1.0 is faulty framing",
    ),
)

LINES = (
    MalformedRequest("fold", head(b"X-A: 1\r\n 2"), 400, _FOLD),
    MalformedRequest("fold-tab", head(b"X-A: 1\r\n\t2"), 400, _FOLD),
    MalformedRequest("fold-hides-length", head(b"X-A: 1\r\n Content-Length: 5") + b"hello", 400, _FOLD),
    MalformedRequest(
        "space-before-first-field", head(host=b" Host: shop\r\n"), 400, "2.2: whitespace before the first field"
    ),
    MalformedRequest(
        "tab-before-first-field",
        head(host=b"\tX-A: 1\r\nHost: shop\r\n"),
        400,
        "2.2: whitespace before the first field",
    ),
    MalformedRequest("lf-everywhere", b"GET /x HTTP/1.1\nHost: shop\n\n", 400, _CRLF),
    MalformedRequest("lf-request-line", b"GET /x HTTP/1.1\nHost: shop\r\n\r\n", 400, _CRLF),
    MalformedRequest("lf-field-line", b"GET /x HTTP/1.1\r\nHost: shop\nX-A: 1\r\n\r\n", 400, _CRLF),
    MalformedRequest("lf-blank-line", b"GET /x HTTP/1.1\r\nHost: shop\r\n\n", 400, _CRLF),
    MalformedRequest("lf-in-value", field(b"X-A: 1\nContent-Length: 30"), 400, _CRLF),
    MalformedRequest("lf-before-request", b"\nGET /x HTTP/1.1\r\nHost: shop\r\n\r\n", 400, _CRLF),
    MalformedRequest("cr-in-value", field(b"X-A: 1\r2"), 400, _CRLF),
    MalformedRequest("cr-as-line-end", field(b"X-A: 1\rContent-Length: 30"), 400, _CRLF),
    MalformedRequest("cr-doubled", b"GET /x HTTP/1.1\r\nHost: shop\r\r\n\r\n", 400, _CRLF),
    MalformedRequest("cr-in-name", field(b"X\r-A: 1"), 400, _CRLF),
    MalformedRequest("cr-in-target", first(b"GET /x\ry HTTP/1.1"), 400, _CRLF),
    MalformedRequest("cr-in-blank-line", b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\r\n", 400, _CRLF),
    MalformedRequest("cr-before-request", b"\rGET /x HTTP/1.1\r\nHost: shop\r\n\r\n", 400, _CRLF),
)

FIELDS = (
    MalformedRequest("name-space-before-colon", field(b"X-A : 1"), 400, _NAME),
    MalformedRequest("name-tab-before-colon", field(b"X-A\t: 1"), 400, _NAME),
    MalformedRequest("name-length-space", head(b"Content-Length : 5") + b"hello", 400, _NAME),
    MalformedRequest("name-empty", field(b": 1"), 400, _NAME),
    MalformedRequest("name-inner-space", field(b"X A: 1"), 400, _NAME),
    MalformedRequest("name-no-colon", field(b"garbage"), 400, _NAME),
    MalformedRequest("name-nul", field(b"X\0A: 1"), 400, _NAME),
    MalformedRequest("name-control", field(b"X\x01A: 1"), 400, _NAME),
    MalformedRequest("name-vertical-tab", head(b"Content-Length\x0b: 5") + b"hello", 400, _NAME),
    MalformedRequest("name-delete", field(b"X\x7fA: 1"), 400, _NAME),
    MalformedRequest("name-non-ascii", field(b"X-\xc3\xa9: 1"), 400, _NAME),
    MalformedRequest("name-delimiter", field(b"X(A): 1"), 400, _NAME),
    MalformedRequest("name-brackets", field(b"X[A]: 1"), 400, _NAME),
    MalformedRequest("value-nul", field(b"X-A: 1\x002"), 400, _VALUE),
    MalformedRequest("value-control", field(b"X-A: 1\x012"), 400, _VALUE),
    MalformedRequest("value-escape", field(b"X-A: \x1b[31m"), 400, _VALUE),
    MalformedRequest("value-form-feed", field(b"X-A: 1\x0c2"), 400, _VALUE),
    MalformedRequest("value-delete", field(b"X-A: 1\x7f"), 400, _VALUE),
)

REQUEST_LINES = (
    MalformedRequest("line-two-spaces", first(b"GET  /x HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-two-spaces-late", first(b"GET /x  HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-tab", first(b"GET\t/x\tHTTP/1.1"), 400, _LINE),
    MalformedRequest("line-leading-space", first(b" GET /x HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-trailing-space", first(b"GET /x HTTP/1.1 "), 400, _LINE),
    MalformedRequest("line-trailing-word", first(b"GET /x HTTP/1.1 HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-space-in-target", first(b"GET /x y HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-no-version", first(b"GET /x"), 400, "3: no HTTP-version (HTTP/0.9)", also=(505,)),
    MalformedRequest("line-no-version-space", first(b"GET /x "), 400, _LINE, also=(505,)),
    MalformedRequest("line-no-target", first(b"GET HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-empty-target", first(b"GET  HTTP/1.1"), 400, _LINE),
    MalformedRequest("line-method-delimiter", first(b"G(T /x HTTP/1.1"), 400, "3.1: method = token", also=(501,)),
    MalformedRequest("line-method-nul", first(b"G\0T /x HTTP/1.1"), 400, "3.1: method = token"),
    MalformedRequest("line-method-non-ascii", first(b"G\xc3\x89T /x HTTP/1.1"), 400, "3.1: method = token"),
    MalformedRequest(
        "line-tls-hello", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"\0" * 32 + b"\r\n\r\n", 400, _LINE
    ),
    MalformedRequest("line-response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400, _LINE),
    MalformedRequest("target-non-ascii", first(b"GET /caf\xc3\xa9 HTTP/1.1"), 400, _TARGET),
    MalformedRequest("target-nul", first(b"GET /x\0 HTTP/1.1"), 400, _TARGET),
    MalformedRequest("target-control", first(b"GET /x\x01y HTTP/1.1"), 400, _TARGET),
    MalformedRequest("target-delete", first(b"GET /x\x7f HTTP/1.1"), 400, _TARGET),
    MalformedRequest("target-fragment", first(b"GET /x#y HTTP/1.1"), 400, "3.2: a request-target has no fragment"),
    MalformedRequest("target-no-slash", first(b"GET x HTTP/1.1"), 400, "3.2.1: origin-form starts with a slash"),
    MalformedRequest("target-query-only", first(b"GET ?x HTTP/1.1"), 400, "3.2.1: origin-form starts with a slash"),
    MalformedRequest("target-star-get", first(b"GET * HTTP/1.1"), 400, "3.2.4: the asterisk is for OPTIONS"),
    MalformedRequest(
        "target-authority-get", first(b"GET shop:80 HTTP/1.1"), 400, "3.2.3: authority-form is for CONNECT"
    ),
    MalformedRequest(
        "target-connect", first(b"CONNECT shop:80 HTTP/1.1"), 405, "3.2.3, 9110 9.3.6: CONNECT", also=(400, 501)
    ),
    MalformedRequest(
        "target-absolute-no-host", first(b"GET http:///x HTTP/1.1"), 400, "9110 4.2.1: an empty host is invalid"
    ),
    MalformedRequest(
        "target-absolute-user", first(b"GET http://a@shop/x HTTP/1.1"), 400, "9110 4.2.4: userinfo is an error"
    ),
    MalformedRequest(
        "target-absolute-ftp", first(b"GET ftp://shop/x HTTP/1.1"), 400, "3.2.2: another scheme", also=(421,)
    ),
    MalformedRequest(
        "target-absolute-missing-host", head(request_line=b"GET http://shop/x HTTP/1.1", host=b""), 400, _HOST
    ),
    MalformedRequest("version-1.2", first(b"GET /x HTTP/1.2"), 505, _VERSION),
    MalformedRequest("version-2.0", first(b"GET /x HTTP/2.0"), 505, _VERSION),
    MalformedRequest("version-3", first(b"GET /x HTTP/3.0"), 505, _VERSION),
    MalformedRequest("version-0.9", first(b"GET /x HTTP/0.9"), 505, _VERSION, also=(400,)),
    MalformedRequest("version-lower-case", first(b"GET /x http/1.1"), 400, _VERSION),
    MalformedRequest("version-two-digits", first(b"GET /x HTTP/1.10"), 400, _VERSION, also=(505,)),
    MalformedRequest("version-leading-zero", first(b"GET /x HTTP/01.1"), 400, _VERSION, also=(505,)),
    MalformedRequest("version-no-minor", first(b"GET /x HTTP/1"), 400, _VERSION, also=(505,)),
    MalformedRequest("version-other-name", first(b"GET /x HTTQ/1.1"), 400, _VERSION, also=(505,)),
    MalformedRequest(
        "preface-http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505, "9113 3.4: an HTTP/2 preface"
    ),
)

HOSTS: tuple[MalformedRequest, ...] = (
    MalformedRequest("host-none", head(host=b""), 400, _HOST),
    MalformedRequest("host-twice-equal", head(b"Host: shop"), 400, _HOST),
    MalformedRequest("host-twice-different", head(b"host: admin"), 400, _HOST),
    MalformedRequest("host-empty", host(b""), 400, "9110 4.2.1: an empty host is invalid"),
    MalformedRequest("host-inner-space", host(b" shop admin"), 400, _HOST),
    MalformedRequest("host-list", host(b" shop, admin"), 400, _HOST),
    MalformedRequest("host-user", host(b" a@shop"), 400, _HOST),
    MalformedRequest("host-slash", host(b" shop/x"), 400, _HOST),
    MalformedRequest("host-backslash", host(b" shop\\x"), 400, _HOST),
    MalformedRequest("host-query", host(b" shop?x"), 400, _HOST),
    MalformedRequest("host-fragment", host(b" shop#x"), 400, _HOST),
    MalformedRequest("host-scheme", host(b" http://shop"), 400, _HOST),
    MalformedRequest("host-non-ascii", host(b" sh\xc3\xb6p"), 400, _HOST),
    MalformedRequest("host-port-letters", host(b" shop:http"), 400, _HOST),
    MalformedRequest("host-port-negative", host(b" shop:-1"), 400, _HOST),
    MalformedRequest("host-port-large", host(b" shop:65536"), 400, _HOST),
    MalformedRequest("host-two-ports", host(b" shop:80:80"), 400, _HOST),
    MalformedRequest("host-bare-ipv6", host(b" fd00::1"), 400, _HOST),
    MalformedRequest("host-open-bracket", host(b" [fd00::1"), 400, _HOST),
    MalformedRequest("host-after-bracket", host(b" [fd00::1]x"), 400, _HOST),
    MalformedRequest("host-port-only", host(b" :80"), 400, "9110 4.2.1: an empty host is invalid"),
)

HOSTS += (
    MalformedRequest(
        "host-invalid-beside-absolute-form",
        head(request_line=b"GET http://shop/x HTTP/1.1", host=b"Host: a b\r\n"),
        400,
        "3.2: an invalid Host is refused whatever the target says",
    ),
    MalformedRequest(
        "host-twice-beside-absolute-form",
        head(b"Host: admin", request_line=b"GET http://shop/x HTTP/1.1"),
        400,
        _HOST,
    ),
)

_C, _T = _CHUNK, _TRAILER
CHUNKS = (
    MalformedRequest("chunk-0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-negative", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-leading-space", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-underscore", chunked(b"0_5\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-empty-size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-not-hex", chunked(b"g\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-extension-only", chunked(b";a=b\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-17-digits", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, _C, True, (413,)),
    MalformedRequest("chunk-20-digits", chunked(b"fffffffffffffffffff5\r\nhello\r\n0\r\n\r\n"), 400, _C, True, (413,)),
    MalformedRequest("chunk-control-in-extension", chunked(b"5;\x01\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-nul-in-extension", chunked(b"5;a=\0\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-cr-in-extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-lf-in-extension", chunked(b"5;a\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest(
        "chunk-huge-extension",
        chunked(b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n"),
        400,
        "7.1.1: limit extensions",
        True,
        (413, 431),
    ),
    MalformedRequest("chunk-lf-size-line", chunked(b"5\nhello\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-lf-after-data", chunked(b"5\r\nhello\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-cr-after-data", chunked(b"5\r\nhello\r0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-nothing-after-data", chunked(b"5\r\nhello0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-longer-than-said", chunked(b"5\r\nhello!\r\n0\r\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-lf-last", chunked(b"5\r\nhello\r\n0\n\r\n"), 400, _C, True),
    MalformedRequest("chunk-lf-end", chunked(b"5\r\nhello\r\n0\r\n\n"), 400, _C, True),
    MalformedRequest("chunk-bad-second", chunked(b"5\r\nhello\r\nz\r\n\r\n"), 400, _C, True),
    MalformedRequest("trailer-no-colon", chunked(b"5\r\nhello\r\n0\r\ngarbage\r\n\r\n"), 400, _T, True),
    MalformedRequest("trailer-space-before-colon", chunked(b"5\r\nhello\r\n0\r\nX-T : 1\r\n\r\n"), 400, _T, True),
    MalformedRequest("trailer-fold", chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\n 2\r\n\r\n"), 400, _T, True),
    MalformedRequest("trailer-control", chunked(b"5\r\nhello\r\n0\r\nX-T: \x01\r\n\r\n"), 400, _T, True),
    MalformedRequest("trailer-lf", chunked(b"5\r\nhello\r\n0\r\nX-T: 1\n\r\n"), 400, _T, True),
    MalformedRequest("trailer-empty-name", chunked(b"5\r\nhello\r\n0\r\n: 1\r\n\r\n"), 400, _T, True),
    MalformedRequest(
        "trailer-huge",
        chunked(b"5\r\nhello\r\n0\r\nX-T: " + b"a" * 70_000 + b"\r\n\r\n"),
        431,
        _LIMIT,
        True,
        (400, 413),
    ),
    MalformedRequest(
        "trailer-too-many",
        chunked(b"5\r\nhello\r\n0\r\n" + b"X-T: 1\r\n" * 101 + b"\r\n"),
        431,
        _LIMIT,
        True,
        (400, 413),
    ),
)

_TOO_LONG = "3: 414 for a target that is too long"
LIMITS = (
    MalformedRequest("limit-101-fields", head(*[b"X-%d: 1" % i for i in range(100)]), 431, _LIMIT),
    MalformedRequest("limit-500-fields", head(*[b"X-%d: 1" % i for i in range(500)]), 431, _LIMIT),
    MalformedRequest("limit-65-kb-value", field(b"X-A: " + b"a" * 65_600), 431, _LIMIT),
    MalformedRequest("limit-65-kb-name", field(b"a" * 65_600 + b": 1"), 431, _LIMIT),
    MalformedRequest(
        "limit-65-kb-sum", field(b"\r\n".join(b"X-%02d: %s" % (i, b"a" * 1000) for i in range(66))), 431, _LIMIT
    ),
    MalformedRequest("limit-65-kb-target", first(b"GET /" + b"a" * 65_600 + b" HTTP/1.1"), 414, _TOO_LONG, also=(431,)),
    MalformedRequest(
        "limit-65-kb-method",
        first(b"G" * 65_600 + b" / HTTP/1.1"),
        400,
        "3: 501 for a method that is too long",
        also=(431, 501),
    ),
    MalformedRequest("limit-no-line-end", b"GET /" + b"a" * 70_000, 414, _TOO_LONG, also=(431,)),
)

MALFORMED_REQUESTS: tuple[MalformedRequest, ...] = (
    *LENGTHS,
    *CODINGS,
    *LINES,
    *FIELDS,
    *REQUEST_LINES,
    *HOSTS,
    *CHUNKS,
    *LIMITS,
)

TOLERABLE_REQUESTS = (
    TolerableRequest(
        "connection-names-length",
        head(CL, b"Connection: content-length") + b"hello",
        "9110 7.6.1",
        b"POST",
        b"/x",
        b"hello",
    ),
    TolerableRequest(
        "connection-names-coding", coding(TE, b"Connection: transfer-encoding"), "9110 7.6.1", b"POST", b"/x", b"hello"
    ),
    TolerableRequest("connection-names-host", field(b"Connection: host"), "9110 7.6.1", b"GET", b"/x"),
    TolerableRequest(
        "coding-empty-element", coding(b"Transfer-Encoding: ,chunked"), "9110 5.6.1.2", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "coding-trailing-comma", coding(b"Transfer-Encoding: chunked,"), "9110 5.6.1.2", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "chunk-space-after-size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), "7.1.1: BWS", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "chunk-space-before-extension",
        chunked(b"5 ; a = b\r\nhello\r\n0\r\n\r\n"),
        "7.1.1: BWS",
        b"POST",
        b"/x",
        b"hello",
    ),
    TolerableRequest(
        "coding-trailing-tab", coding(b"Transfer-Encoding: chunked\t"), "5: OWS", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "chunk-many-zeros", chunked(b"5\r\nhello\r\n" + b"0" * 17 + b"\r\n\r\n"), "7.1", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "chunk-padded-size", chunked(b"0" * 20 + b"5\r\nhello\r\n0\r\n\r\n"), "7.1", b"POST", b"/x", b"hello"
    ),
    TolerableRequest(
        "trailer-length",
        chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
        "9110 6.5.1",
        b"POST",
        b"/x",
        b"hello",
    ),
    TolerableRequest(
        "trailer-host", chunked(b"5\r\nhello\r\n0\r\nHost: admin\r\n\r\n"), "9110 6.5.1", b"POST", b"/x", b"hello"
    ),
    TolerableRequest("two-blank-lines-first", b"\r\n\r\nGET /x HTTP/1.1\r\nHost: shop\r\n\r\n", "2.2", b"GET", b"/x"),
    TolerableRequest("target-absolute-https", first(b"GET https://shop/x HTTP/1.1"), "9110 7.4", b"GET", b"/x"),
    TolerableRequest("host-comma", host(b" shop,admin"), "3986 3.2.2: a comma is a sub-delim", b"GET", b"/x"),
    TolerableRequest("host-empty-port", host(b" shop:"), "3986 3.2.3", b"GET", b"/x"),
    TolerableRequest(
        "method-lower-case", first(b"get /x HTTP/1.1"), "3.1: methods are case-sensitive tokens", b"get", b"/x"
    ),
    TolerableRequest("method-unknown", first(b"BREW /x HTTP/1.1"), "9110 9.1: 501 or passed on", b"BREW", b"/x"),
    TolerableRequest(
        "upgrade-with-body",
        head(CL, b"Connection: upgrade", b"Upgrade: none") + b"hello",
        "9110 7.8",
        b"POST",
        b"/x",
        b"hello",
    ),
    TolerableRequest("http-1.0-two-hosts", head(b"Host: b", request_line=b"GET /x HTTP/1.0"), "3.2", b"GET", b"/x"),
)


def _plain(
    name: str, wire: bytes, section: str, method: bytes = b"GET", target: bytes = b"/x", body: bytes = b""
) -> AcceptedRequest:
    return AcceptedRequest(name, wire, section, method, target, body=body)


ACCEPTED_REQUESTS = (
    _plain("length-spaces-around", length(b"   5 \t"), "5: OWS around a value", b"POST", body=b"hello"),
    _plain("length-no-space", length(b"5"), "5: OWS around a value", b"POST", body=b"hello"),
    _plain("length-leading-zeros", length(b" 00005"), "9110 8.6", b"POST", body=b"hello"),
    _plain("length-on-get", head(CL, request_line=b"GET /x HTTP/1.1") + b"hello", "6: a body on GET", body=b"hello"),
    _plain("length-zero", head(b"Content-Length: 0"), "6.3", b"POST"),
    _plain("no-length-on-post", head(), "6.3 (7)", b"POST"),
    _plain("coding-tab", coding(b"Transfer-Encoding:\tchunked "), "5: OWS is SP or HTAB", b"POST", body=b"hello"),
    _plain(
        "coding-case", coding(b"transfer-ENCODING: CHUNKED"), "7: codings are case-insensitive", b"POST", body=b"hello"
    ),
    _plain("chunk-extension", chunked(b'5;a=b;c="d e";f\r\nhello\r\n0;z\r\n\r\n'), "7.1.1", b"POST", body=b"hello"),
    _plain("chunk-upper-hex", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), "7.1", b"POST", body=b"0123456789"),
    _plain("chunk-zero-padded", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), "7.1", b"POST", body=b"hello"),
    _plain(
        "chunk-trailers",
        chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", b"Trailer: X-T, X-U"),
        "7.1.2",
        b"POST",
        body=b"hello",
    ),
    _plain(
        "chunk-one-byte-each",
        chunked(b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + b"0\r\n\r\n"),
        "7.1",
        b"POST",
        body=b"hello",
    ),
    _plain(
        "blank-line-first", b"\r\nGET /x HTTP/1.1\r\nHost: shop\r\n\r\n", "2.2: ignore an empty line before a request"
    ),
    _plain("value-empty", field(b"X-A:"), "5: an empty value"),
    _plain("value-obs-text", field(b"X-A: caf\xc3\xa9 \xff"), "9110 5.5: obs-text"),
    _plain("value-colons", field(b"X-A: a: b:c"), "5"),
    _plain("name-all-token-characters", field(b"!#$%&'*+-.^_`|~09aZ: 1"), "9110 5.6.2: tchar"),
    _plain("name-twice", field(b"X-A: 1\r\nX-B: 2\r\nX-A: 3"), "9110 5.3: order of equal names"),
    _plain("connection-names-field", field(b"Connection: x-hop\r\nX-Hop: 1"), "9110 7.6.1"),
    _plain("fields-100", head(*[b"X-%d: 1" % i for i in range(99)], request_line=b"GET /x HTTP/1.1"), "6585 5"),
    _plain("value-60-kb", field(b"X-A: " + b"a" * 60_000), "6585 5"),
    _plain("target-query", first(b"GET /x?a=/../b&c=%2F HTTP/1.1"), "3.2.1", target=b"/x?a=/../b&c=%2F"),
    _plain("target-empty-query", first(b"GET /x? HTTP/1.1"), "3.2.1", target=b"/x?"),
    _plain("target-star", first(b"OPTIONS * HTTP/1.1"), "3.2.4", b"OPTIONS", b"*"),
    _plain("target-absolute", first(b"GET http://shop/x?y HTTP/1.1"), "3.2.2", target=b"/x?y"),
    AcceptedRequest(
        "target-absolute-other-host",
        head(request_line=b"GET http://admin:8080/x HTTP/1.1"),
        "3.2.2: the authority wins",
        b"GET",
        b"/x",
        b"admin:8080",
    ),
    _plain("target-absolute-no-path", first(b"GET http://shop HTTP/1.1"), "3.2.1", target=b"/"),
    _plain("target-absolute-scheme-case", first(b"GET HTTP://shop/x HTTP/1.1"), "3986 3.1"),
    AcceptedRequest("host-ipv6", host(b" [fd00::1]:80"), "9110 7.2", b"GET", b"/x", b"[fd00::1]:80"),
    AcceptedRequest("host-case", host(b" ShOp"), "3986 6.2.2.1", b"GET", b"/x", b"ShOp"),
    AcceptedRequest("host-port", host(b" shop:8080"), "9110 7.2", b"GET", b"/x", b"shop:8080"),
    AcceptedRequest("http-1.0-no-host", head(request_line=b"GET /x HTTP/1.0", host=b""), "3.2", b"GET", b"/x", b""),
    _plain("http-1.0-length", head(CL, request_line=b"POST /x HTTP/1.0") + b"hello", "6.3", b"POST", body=b"hello"),
    _plain("method-delete", first(b"DELETE /x HTTP/1.1"), "3.1", b"DELETE"),
    _plain("method-patch", head(CL, request_line=b"PATCH /x HTTP/1.1") + b"hello", "3.1", b"PATCH", body=b"hello"),
    _plain("method-propfind", first(b"PROPFIND /x HTTP/1.1"), "9110 16.1.1", b"PROPFIND"),
    _plain(
        "method-query",
        head(CL, request_line=b"QUERY /x HTTP/1.1") + b"hello",
        "9110 9.1: methods are open-ended",
        b"QUERY",
        body=b"hello",
    ),
)
