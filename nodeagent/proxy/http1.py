"""HTTP/1 heads: the plain ones line by line (nodeagent.core.lines), the others by httptools (llhttp), held to more.

A head is always parsed whole, by a parser that lives for that head alone: nothing of one message can leak into
the reading of the next, and an idle connection owns no parser.  Bodies never come here.

What llhttp accepts and this module does not: empty lines before the start line, more than one space in it,
versions other than 1.0 and 1.1, RTSP's and ICE's protocol names, control bytes in a reason phrase.
"""

from __future__ import annotations

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidStatusError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from nodeagent.core import lines
from nodeagent.core.fields import FORBIDDEN_TRAILERS, Fields, make_field
from nodeagent.core.refusals import REQUESTS, RESPONSES, Refused

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"

_WORDS: tuple[tuple[str, str], ...] = (
    # (part of llhttp's message, our reason), first match wins
    ("PRI/Upgrade", "http2-preface"),
    ("Invalid HTTP version", "version"),
    ("after version", "request-line"),
    ("Expected HTTP/", "request-line"),
    ("Expected dot", "version"),
    ("Expected LF after", "line-ending"),
    ("expected CR after", "line-ending"),
    ("expected LF after", "line-ending"),
    ("whitespace after header value", "obs-fold"),
    ("space after start line", "obs-fold"),
    ("header token", "header-name"),
    ("header value char", "header-value"),
    ("Duplicate Content-Length", "content-length-repeated"),
    ("can't be present with", "length-and-coding"),
    ("Content-Length", "content-length"),
    ("Request has invalid `Transfer-Encoding`", "coding-unknown"),
    ("Transfer-Encoding", "coding"),
)
_PHRASE_CONTROLS = bytes([*range(9), *range(10, 32), 127])


class _Collector:
    """Receives llhttp's callbacks for one head at a time."""

    __slots__ = ("fields", "phrase", "url")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.fields: Fields = []
        self.url = b""
        self.phrase = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, phrase: bytes) -> None:
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append(make_field(name, value.rstrip(b" \t")))


_collector = _Collector()  # one loop per process, and no parse yields to it
_MAX_METHOD = 64
_METHODS: dict[bytes, str] = {}


def parse_request(head: bytes, max_fields: int) -> tuple[str, bytes, int, Fields]:
    """(method, target, minor version, fields) of a head that ends at its first empty line.  Raises Refused."""
    plain = lines.request_head(head)
    if plain is None:
        return read_request(head, max_fields)
    (method, target, minor), fields = plain
    if len(fields) > max_fields:
        raise Refused(REQUESTS["header-count"])
    return method, target, minor, fields


def read_request(head: bytes, max_fields: int) -> tuple[str, bytes, int, Fields]:
    """`parse_request` by llhttp alone."""
    collector = _collector
    collector.clear()
    parser = HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass  # Upgrade or CONNECT: the head itself is complete
    except HttpParserError as error:
        raise Refused(REQUESTS[_request_reason(error, head)]) from error
    method: bytes = parser.get_method()
    url = collector.url
    line = b"%b %b HTTP/1.1\r\n" % (method, url)
    minor = 1
    if not head.startswith(line):
        _check_request_line(head, method, url)
        minor = 0
    fields = collector.fields
    if len(fields) > max_fields:
        raise Refused(REQUESTS["header-count"])
    return _METHODS.get(method) or _method_text(method), url, minor, fields


def _method_text(method: bytes) -> str:
    return _METHODS.setdefault(method, method.decode("ascii"))  # llhttp knows some 40 of them


def _check_request_line(head: bytes, method: bytes, url: bytes) -> None:
    """Return for HTTP/1.0; raise the right refusal for every other line that is not HTTP/1.1's."""
    line = head[: head.find(b"\r\n")]
    start = b"%b %b HTTP/" % (method, url)
    if line == start + b"1.0":
        return
    version = line[len(start) :]
    digits = len(version) == 3 and version[:1].isdigit() and version[1:2] == b"." and version[2:].isdigit()
    reason = "version" if line.startswith(start) and digits else "request-line"
    raise Refused(REQUESTS["http2-preface" if head == PREFACE else reason])


def _request_reason(error: HttpParserError, head: bytes) -> str:
    if head.startswith(PREFACE[:18]):
        return "http2-preface"
    if isinstance(error, HttpParserInvalidMethodError):
        return _method_reason(head)
    if isinstance(error, HttpParserInvalidURLError):
        return "target"
    text = str(error)
    return next((word for part, word in _WORDS if part in text), "malformed")


def _method_reason(head: bytes) -> str:
    method = head.partition(b" ")[0]
    return "method-unknown" if 0 < len(method) < _MAX_METHOD and method.isalpha() else "request-line"


def parse_response(head: bytes, max_fields: int) -> tuple[int, bytes, int, Fields]:
    """(status, reason phrase, minor version, fields).  Raises Refused."""
    plain = lines.response_head(head)
    if plain is None:
        return read_response(head, max_fields)
    (status, phrase, minor), fields = plain
    if len(fields) > max_fields:
        raise Refused(RESPONSES["upstream-header-count"])
    return status, phrase, minor, fields


def read_response(head: bytes, max_fields: int) -> tuple[int, bytes, int, Fields]:
    """`parse_response` by llhttp alone."""
    collector = _collector
    collector.clear()
    parser = HttpResponseParser(collector)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserInvalidStatusError as error:
        raise Refused(RESPONSES["upstream-status"]) from error
    except HttpParserError as error:
        raise Refused(RESPONSES[_response_reason(error)]) from error
    status: int = parser.get_status_code()
    minor = _check_status_line(head, status)
    if len(collector.fields) > max_fields:
        raise Refused(RESPONSES["upstream-header-count"])
    return status, collector.phrase, minor, collector.fields


def _check_status_line(head: bytes, status: int) -> int:
    """The minor version of a well-formed status line."""
    if head.startswith(b"HTTP/1.1 "):
        minor = 1
    elif head.startswith(b"HTTP/1.0 "):
        minor = 0
    else:
        raise Refused(RESPONSES["upstream-version" if head.startswith(b"HTTP/") else "upstream-status"])
    phrase = _collector.phrase
    if not 100 <= status <= 999 or (phrase and phrase.translate(None, _PHRASE_CONTROLS) != phrase):
        raise Refused(RESPONSES["upstream-status"])
    return minor


def _response_reason(error: HttpParserError) -> str:
    text = str(error)
    word = next((word for part, word in _WORDS if part in text), "malformed")
    known = f"upstream-{word}"
    return known if known in RESPONSES else "upstream-malformed"


def parse_trailer(section: bytes, max_fields: int) -> Fields:
    """Fields of a trailer section ("name: value CRLF" lines), without those that may not be there.  Raises Refused."""
    fields = parse_response(b"HTTP/1.1 200 OK\r\n%b\r\n" % section, max_fields)[3]
    return [field for field in fields if field[2].encode() not in FORBIDDEN_TRAILERS]


class HeadProbe:
    """Looks at a head that arrives in pieces, so that a broken one is refused at once and not when time is up."""

    __slots__ = ("_is_lost", "_parser")

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self._is_lost = False

    def feed(self, data: bytes, head: bytes) -> None:
        """`data` is new, `head` all of it so far.  Raises Refused."""
        if self._is_lost and not _is_part_of_method(head):
            raise Refused(REQUESTS[_method_reason(head)])
        try:
            self._parser.feed_data(data)
        except HttpParserInvalidMethodError as error:
            self._is_lost = True
            if not _is_part_of_method(head):
                raise Refused(REQUESTS[_request_reason(error, head)]) from error
        except HttpParserError as error:
            raise Refused(REQUESTS[_request_reason(error, head)]) from error


def _is_part_of_method(head: bytes) -> bool:
    """The first word may go on: too early to say whether it is an unknown method or no method at all."""
    return head.isalpha() and len(head) < _MAX_METHOD
