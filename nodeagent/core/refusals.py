"""Every way a message is refused, as data: the code, one word for `x-mesh-reason`, and the RFC section that decides.

A refused request is answered and its connection closed; it is never forwarded.  A refused response
becomes a 502, or an abort when part of it was already sent; its connection is never pooled.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """`section` is "RFC number section", or the name of a bound of ours; `detail` is the line sent to the client."""

    status: int
    reason: str
    section: str
    detail: str


class Refused(Exception):  # noqa: N818 - an outcome that is raised, not a fault of ours
    """A message that must not be forwarded; carries its Refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def _table(*rows: tuple[int, str, str, str]) -> dict[str, Refusal]:
    return {reason: Refusal(status, reason, section, detail) for status, reason, section, detail in rows}


REQUESTS: dict[str, Refusal] = _table(
    (400, "malformed", "9112 3", "the request head does not follow the HTTP/1.1 grammar"),
    (400, "request-line", "9112 3", "the request line must be METHOD SP TARGET SP VERSION CRLF, single spaces"),
    (501, "method-unknown", "9110 9.1", "the method is not one this proxy knows"),
    (501, "connect", "9110 9.3.6", "CONNECT is not offered: dial the address itself"),
    (400, "target", "9112 3.2", "the request target has characters or a form that HTTP does not allow"),
    (505, "version", "9110 15.6.6", "only HTTP/1.0 and HTTP/1.1 are spoken on this port"),
    (505, "http2-preface", "9113 3.4", "HTTP/2 is not spoken on this port: its Service port is declared HTTP/1"),
    (400, "leading-bytes", "9112 2.2", "at most one empty line may precede a request"),
    (400, "line-ending", "9112 2.2", "lines must end in CRLF; a bare CR or LF is not a line end"),
    (400, "obs-fold", "9112 5.2", "header fields must not be folded over lines"),
    (400, "header-name", "9112 5.1", "a header name must be a token directly followed by a colon"),
    (400, "header-value", "9110 5.5", "a header value holds a control character"),
    (400, "host-missing", "9112 3.2", "an HTTP/1.1 request needs a Host header"),
    (400, "host-repeated", "9112 3.2", "a request may have one Host header only"),
    (400, "host-invalid", "9110 7.2", "the Host header or authority is not a valid host and port"),
    (400, "content-length", "9112 6.3", "Content-Length must be one decimal number"),
    (400, "content-length-repeated", "9112 6.3", "Content-Length is given more than once"),
    (400, "length-and-coding", "9112 6.1", "Content-Length and Transfer-Encoding exclude each other"),
    (501, "coding-unknown", "9112 6.1", "chunked is the only transfer coding this proxy knows"),
    (400, "coding", "9112 6.1", "chunked must be the only and final transfer coding"),
    (400, "coding-1.0", "9112 6.1", "HTTP/1.0 has no transfer codings"),
    (400, "connection-option", "9110 7.6.1", "Connection names a field that is not hop-by-hop"),
    (417, "expectation", "9110 10.1.1", "100-continue is the only expectation known"),
    (400, "chunk-size", "9112 7.1", "a chunk size must be plain hexadecimal digits"),
    (400, "chunk-extension", "9112 7.1.1", "a chunk extension is malformed or too long"),
    (400, "chunk-end", "9112 7.1", "chunk data must end in CRLF"),
    (400, "trailer", "9112 7.1.2", "the trailer section is malformed or too long"),
    (431, "head-size", "6585 5", "the request head is larger than this proxy takes"),
    (431, "header-count", "6585 5", "the request has more header fields than this proxy takes"),
    (408, "head-slow", "9110 15.5.9", "the request head did not arrive in time"),
    (503, "overloaded", "9110 15.6.4", "the proxy holds as many bytes as its memory allows"),
)

RESPONSES: dict[str, Refusal] = _table(
    (502, "upstream-malformed", "9112 4", "the upstream's response head does not follow the HTTP/1.1 grammar"),
    (502, "upstream-status", "9112 4", "the upstream's status line is malformed"),
    (502, "upstream-version", "9112 2.3", "the upstream does not speak HTTP/1.0 or HTTP/1.1"),
    (502, "upstream-line-ending", "9112 2.2", "the upstream's response has a bare CR or LF"),
    (502, "upstream-obs-fold", "9112 5.2", "the upstream's response folds a header over lines"),
    (502, "upstream-header-name", "9112 5.1", "the upstream's response has a malformed header name"),
    (502, "upstream-header-value", "9110 5.5", "the upstream's response has a control character in a header"),
    (502, "upstream-content-length", "9112 6.3", "the upstream's Content-Length is not one decimal number"),
    (502, "upstream-content-length-repeated", "9112 6.3", "the upstream sent Content-Length more than once"),
    (502, "upstream-length-and-coding", "9112 6.1", "the upstream sent both Content-Length and Transfer-Encoding"),
    (502, "upstream-coding", "9112 6.1", "the upstream's transfer coding is not chunked alone"),
    (502, "upstream-coding-1.0", "9112 6.1", "the upstream sent a transfer coding in HTTP/1.0"),
    (502, "upstream-head-size", "6585 5", "the upstream's response head is larger than this proxy takes"),
    (502, "upstream-header-count", "6585 5", "the upstream's response has more header fields than this proxy takes"),
    (502, "upstream-switch", "9110 15.2.2", "the upstream switched protocols without being asked"),
    (502, "upstream-interim", "9110 15.2", "the upstream sent more interim responses than this proxy takes"),
    (502, "upstream-chunk-size", "9112 7.1", "the upstream sent a malformed chunk size"),
    (502, "upstream-chunk-extension", "9112 7.1.1", "the upstream sent a malformed chunk extension"),
    (502, "upstream-chunk-end", "9112 7.1", "the upstream's chunk data does not end in CRLF"),
    (502, "upstream-trailer", "9112 7.1.2", "the upstream sent a malformed trailer section"),
    (502, "upstream-truncated", "9112 8", "the upstream closed before its message was complete"),
)


def refuse_request(reason: str) -> Refused:
    return Refused(REQUESTS[reason])


def refuse_response(reason: str) -> Refused:
    return Refused(RESPONSES[reason])
