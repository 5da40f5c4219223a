"""Where messages end, what of a head is forwarded, and whether a connection outlives it (RFC 9112 6 to 9).

Pure: parsed heads in, plans out.  A plan's head is always written anew from the parsed fields, in their order
and with their names as received, so that the next reader cannot see another message than the one judged.
"""

from __future__ import annotations

import enum
from functools import lru_cache

from nodeagent.core.fields import NEVER_HOP_BY_HOP, Field, Fields, Special, host_of, make_field, tokens
from nodeagent.core.refusals import refuse_request, refuse_response

_MAX_LENGTH_DIGITS = 18  # below 2**60
_NOTHING: frozenset[bytes] = frozenset()


class Body(enum.IntEnum):
    """How a message's end is known."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3  # responses only


class RequestPlan:
    """What becomes of a request.  `fields` are those to forward, and those that rules judge."""

    __slots__ = (
        "_head",
        "body",
        "expects_continue",
        "fields",
        "hop",
        "host",
        "is_head",
        "keep_alive",
        "length",
        "method",
        "minor",
        "target",
        "upgrade",
    )

    def __init__(self, method: str, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target  # origin-form or "*"
        self.minor = minor  # of the client's HTTP version
        self.host = ""
        self.body: int = Body.NONE
        self.length = 0
        self.keep_alive = minor == 1
        self.upgrade = b""  # the Upgrade header's value when the client may switch protocols
        self.expects_continue = False
        self.is_head = method == "HEAD"
        self.fields: Fields = []
        self._head = b""
        self.hop: tuple[Field, ...] = ()  # fields of this hop's own; rules judge them too, they say what is asked for

    def head(self) -> bytes:
        """The bytes for the upstream, made once: a plan does not change when it was judged."""
        if not self._head:
            self._head = self._make_head()
        return self._head

    def _make_head(self) -> bytes:
        lines = [field[4] for field in self.fields]
        lines += [field[4] for field in self.hop]
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (self.method.encode(), self.target, b"\r\n".join(lines))


def plan_request(method: str, target: bytes, minor: int, fields: Fields, default_host: bytes) -> RequestPlan:
    """Judge a parsed head.  `default_host` becomes Host for an HTTP/1.0 request without one.  Raises Refused."""
    target, authority = split_target(method, target)
    plan = RequestPlan(method, target, minor)
    kept = plan.fields
    seen = _RequestSeen()
    for field in fields:
        if not field[3]:
            kept.append(field)
            continue
        forwarded = _special_request_field(plan, seen, field)
        if forwarded is not None:
            kept.append(forwarded)
    if authority and seen.host:
        _replace_host(plan, seen, authority)
    _require_host(plan, seen, authority or default_host)
    if seen.options or seen.upgrade:
        _apply_connection(plan, seen)
    if seen.expect:
        _apply_expect(plan, seen.expect)
    return plan


class _RequestSeen:
    """Special fields met so far."""

    __slots__ = ("expect", "framed", "host", "options", "te_trailers", "upgrade")

    def __init__(self) -> None:
        self.host = b""
        self.framed = False
        self.options = _NOTHING
        self.upgrade = b""
        self.expect = b""
        self.te_trailers = False


def _replace_host(plan: RequestPlan, seen: _RequestSeen, authority: bytes) -> None:
    """RFC 9112 3.2.2: the authority of an absolute-form target is the host, whatever Host says."""
    seen.host = authority
    plan.fields[:] = [make_field(field[0], authority) if field[3] == Special.HOST else field for field in plan.fields]


def _special_request_field(plan: RequestPlan, seen: _RequestSeen, field: Field) -> Field | None:
    """Note a special field; the field to forward in its place, None for none."""
    name, value, _, special, _ = field
    if special == Special.HOST:
        if seen.host:
            raise refuse_request("host-repeated")
        seen.host = value
        host_of(value)  # judged even where an absolute-form target is about to replace it
        return field
    if special == Special.CONNECTION:
        seen.options = seen.options | tokens(value) if seen.options else tokens(value)
    elif special == Special.CONTENT_LENGTH:
        return _request_length(plan, seen, name, value)
    elif special == Special.TRANSFER_ENCODING:
        return _request_coding(plan, seen, name, value)
    elif special == Special.UPGRADE:
        seen.upgrade = b"%b, %b" % (seen.upgrade, value) if seen.upgrade else value
    elif special == Special.EXPECT:
        seen.expect = value.lower() or b"?"
    elif special == Special.TE:
        seen.te_trailers = b"trailers" in tokens(value)
    return None


def _request_length(plan: RequestPlan, seen: _RequestSeen, name: bytes, value: bytes) -> Field:
    if seen.framed:
        raise refuse_request("length-and-coding" if plan.body == Body.CHUNKED else "content-length-repeated")
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise refuse_request("content-length")
    seen.framed = True
    plan.length = int(value)
    plan.body = Body.LENGTH if plan.length else Body.NONE
    return make_field(name, b"%d" % plan.length)


def _request_coding(plan: RequestPlan, seen: _RequestSeen, name: bytes, value: bytes) -> Field:
    if seen.framed:
        raise refuse_request("coding" if plan.body == Body.CHUNKED else "length-and-coding")
    if plan.minor == 0:
        raise refuse_request("coding-1.0")
    if value.lower() != b"chunked":
        raise refuse_request("coding" if b"chunked" in value.lower() else "coding-unknown")
    seen.framed = True
    plan.body = Body.CHUNKED
    return make_field(name, b"chunked")


def _require_host(plan: RequestPlan, seen: _RequestSeen, default: bytes) -> None:
    if not seen.host:
        if plan.minor == 1:
            raise refuse_request("host-missing")
        seen.host = default
        plan.fields.insert(0, make_field(b"Host", default))
    plan.host = host_of(seen.host)


def _apply_connection(plan: RequestPlan, seen: _RequestSeen) -> None:
    options = seen.options
    if plan.minor == 0:
        plan.keep_alive = b"keep-alive" in options and b"close" not in options
    elif b"close" in options:
        plan.keep_alive = False
    named = options - _KNOWN_OPTIONS
    if named:
        _drop_named(plan, named)
    if seen.upgrade and plan.minor == 1 and b"upgrade" in options and b"h2c" not in tokens(seen.upgrade):
        # h2c is left out: behind it requests would no longer be judged one by one.
        plan.upgrade = seen.upgrade
        plan.hop = (_CONNECTION_UPGRADE, make_field(b"Upgrade", seen.upgrade))
    elif seen.te_trailers and plan.minor == 1:
        plan.hop = _TE_TRAILERS


_CONNECTION_UPGRADE = make_field(b"Connection", b"Upgrade")
_TE_TRAILERS = (make_field(b"Connection", b"TE"), make_field(b"TE", b"trailers"))
_EXPECT = make_field(b"Expect", b"100-continue")
_KNOWN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))


def _drop_named(plan: RequestPlan, named: frozenset[bytes]) -> None:
    """Fields that Connection names go no further, and are not judged either."""
    if named & NEVER_HOP_BY_HOP:
        raise refuse_request("connection-option")
    plan.fields[:] = [field for field in plan.fields if field[2].encode() not in named]


def _apply_expect(plan: RequestPlan, expect: bytes) -> None:
    if plan.minor == 0:
        return  # RFC 9110 10.1.1: ignored, and not forwarded either
    if expect != b"100-continue":
        raise refuse_request("expectation")
    plan.expects_continue = True
    plan.hop = (*plan.hop, _EXPECT)


def split_target(method: str, target: bytes) -> tuple[bytes, bytes]:
    """(origin-form or "*", authority of an absolute-form or b"").  Raises Refused."""
    if method == "CONNECT":
        raise refuse_request("connect")
    if target.startswith(b"/"):
        authority = b""
    elif target == b"*":
        if method != "OPTIONS":
            raise refuse_request("target")
        return target, b""
    else:
        target, authority = _split_absolute(method, target)
    if b"#" in target:
        raise refuse_request("target")
    return target, authority


def _split_absolute(method: str, target: bytes) -> tuple[bytes, bytes]:
    if target[:7].lower() != b"http://":
        raise refuse_request("target")
    rest = target[7:]
    end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority:
        raise refuse_request("host-invalid")
    if not path.startswith(b"/"):
        # RFC 9112 3.2.4: OPTIONS with neither path nor query means the server as a whole.
        path = b"*" if not path and method == "OPTIONS" else b"/" + path
    return path, authority


class ResponsePlan:
    """What becomes of a response.  `head` is written for the client."""

    __slots__ = (
        "body",
        "chunk_it",
        "client_keep_alive",
        "head",
        "idle_seconds",
        "length",
        "status",
        "upstream_reusable",
    )

    def __init__(self, status: int) -> None:
        self.status = status
        self.body: int = Body.NONE
        self.length = 0
        self.chunk_it = False  # the body is sent to the client in chunks
        self.client_keep_alive = True
        self.upstream_reusable = True
        self.idle_seconds = -1.0  # the upstream's Keep-Alive: timeout, -1 = none given
        self.head = b""


def plan_response(
    status: int, phrase: bytes, minor: int, fields: Fields, request: RequestPlan, client_keep_alive: bool
) -> ResponsePlan:
    """Judge a parsed final (not 1xx) response head, or 101 for a request that asked for it.  Raises Refused."""
    plan = ResponsePlan(status)
    lines = [b"HTTP/1.1 %d %b" % (status, phrase)]
    seen = _ResponseSeen()
    for field in fields:
        if field[3]:
            _special_response_field(seen, field, lines)
        else:
            lines.append(field[4])
    if minor == 0 and seen.chunked:
        raise refuse_response("upstream-coding-1.0")
    if seen.options - _KNOWN_OPTIONS:
        _drop_named_lines(lines, seen.options)
    _frame_response(plan, seen, request, lines)
    _keep_upstream(plan, seen, minor)
    _keep_client(plan, request, client_keep_alive, lines)
    plan.head = b"\r\n".join(lines) + b"\r\n\r\n"
    return plan


class _ResponseSeen:
    __slots__ = ("chunked", "length", "options", "timeout", "upgrade")

    def __init__(self) -> None:
        self.chunked = b""  # the field's name as received
        self.length: tuple[bytes, int] | None = None
        self.options = _NOTHING
        self.timeout = -1.0
        self.upgrade = b""


def _special_response_field(seen: _ResponseSeen, field: Field, lines: list[bytes]) -> None:
    name, value, _, special, line = field
    if special == Special.CONTENT_LENGTH:
        if seen.length is not None:
            raise refuse_response("upstream-content-length-repeated")
        if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
            raise refuse_response("upstream-content-length")
        seen.length = (name, int(value))
    elif special == Special.TRANSFER_ENCODING:
        if seen.chunked or value.lower() != b"chunked":
            raise refuse_response("upstream-coding")
        seen.chunked = name
    elif special == Special.CONNECTION:
        seen.options = seen.options | tokens(value)
    elif special == Special.KEEP_ALIVE:
        seen.timeout = keep_alive_timeout(value)
    elif special == Special.UPGRADE:
        seen.upgrade = value
    elif special in (Special.HOST, Special.EXPECT):
        lines.append(line)


def _drop_named_lines(lines: list[bytes], options: frozenset[bytes]) -> None:
    named = options - _KNOWN_OPTIONS - NEVER_HOP_BY_HOP
    lines[1:] = [line for line in lines[1:] if line.partition(b":")[0].lower() not in named]


def _frame_response(plan: ResponsePlan, seen: _ResponseSeen, request: RequestPlan, lines: list[bytes]) -> None:
    """RFC 9112 6.3, in its order."""
    if seen.chunked and seen.length is not None:
        raise refuse_response("upstream-length-and-coding")
    if plan.status == 101:
        lines += (b"Connection: Upgrade", b"Upgrade: " + (seen.upgrade or request.upgrade))
        return
    if plan.status in (204, 205) and (seen.chunked or (seen.length and seen.length[1])):
        plan.upstream_reusable = False  # it may yet send the body it announced, which is none (RFC 9110 15.3.5)
    if plan.status == 204:
        return
    if request.is_head or plan.status == 304:
        _describe_absent_body(seen, lines)
        return
    if seen.chunked:
        plan.body = Body.CHUNKED
        plan.chunk_it = request.minor == 1
        if plan.chunk_it:
            lines.append(b"%b: chunked" % seen.chunked)
    elif seen.length is not None:
        plan.length = seen.length[1]
        plan.body = Body.LENGTH if plan.length else Body.NONE
        lines.append(b"%b: %d" % seen.length)
    else:
        plan.body = Body.UNTIL_CLOSE
        plan.chunk_it = request.minor == 1
        if plan.chunk_it:
            lines.append(b"Transfer-Encoding: chunked")


def _describe_absent_body(seen: _ResponseSeen, lines: list[bytes]) -> None:
    """HEAD and 304 say how the body would have been framed."""
    if seen.chunked:
        lines.append(b"%b: chunked" % seen.chunked)
    elif seen.length is not None:
        lines.append(b"%b: %d" % seen.length)


def _keep_upstream(plan: ResponsePlan, seen: _ResponseSeen, minor: int) -> None:
    asked_to_close = b"close" in seen.options or (minor == 0 and b"keep-alive" not in seen.options)
    if asked_to_close or plan.body == Body.UNTIL_CLOSE or plan.status == 101:
        plan.upstream_reusable = False
    else:
        plan.idle_seconds = seen.timeout


def _keep_client(plan: ResponsePlan, request: RequestPlan, keep_alive: bool, lines: list[bytes]) -> None:
    if plan.status == 101:
        return
    if not plan.chunk_it and plan.body in (Body.CHUNKED, Body.UNTIL_CLOSE):
        keep_alive = False  # HTTP/1.0: the end of the body is the end of the connection
    plan.client_keep_alive = keep_alive
    if not keep_alive:
        lines.append(b"Connection: close")
    elif request.minor == 0:
        lines.append(b"Connection: keep-alive")


def interim_head(status: int, phrase: bytes, fields: Fields) -> bytes:
    """A 1xx response (not 101) for the client: without fields of one hop, or any framing."""
    lines = [b"HTTP/1.1 %d %b" % (status, phrase)]
    lines += [field[4] for field in fields if not field[3]]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@lru_cache(maxsize=64)
def keep_alive_timeout(value: bytes) -> float:
    """Seconds of `Keep-Alive: timeout=N`; -1 when it says nothing that can be read."""
    for part in value.lower().split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.strip() == b"timeout" and number.strip().isdigit() and len(number) < 8:
            return float(number)
    return -1.0
