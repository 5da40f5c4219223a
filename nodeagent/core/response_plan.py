"""Where a response ends, what the client sees of its head, and which connections outlive it."""

from __future__ import annotations

from functools import lru_cache

from nodeagent.core.fields import NEVER_HOP_BY_HOP, Field, Fields, Special, make_field, tokens
from nodeagent.core.filters import HeaderChange, changed_fields
from nodeagent.core.framing import KNOWN_OPTIONS, MAX_LENGTH_DIGITS, NOTHING, Body
from nodeagent.core.refusals import refuse_response
from nodeagent.core.request_plan import RequestPlan


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
    if seen.options - KNOWN_OPTIONS:
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
        self.options = NOTHING
        self.timeout = -1.0
        self.upgrade = b""


def _special_response_field(seen: _ResponseSeen, field: Field, lines: list[bytes]) -> None:
    name, value, _, special, line = field
    if special == Special.CONTENT_LENGTH:
        if seen.length is not None:
            raise refuse_response("upstream-content-length-repeated")
        if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
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
    named = options - KNOWN_OPTIONS - NEVER_HOP_BY_HOP
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


def filtered_response(fields: Fields, change: HeaderChange) -> Fields:
    """The fields after a route's filters.

    What the upstream names in Connection goes first, and is named no more: else it could drop what a filter adds.
    """
    named = frozenset[bytes]().union(*(tokens(field[1]) for field in fields if field[3] == Special.CONNECTION))
    named -= KNOWN_OPTIONS | NEVER_HOP_BY_HOP
    if named:
        fields = [_with_known_options(field) for field in fields if field[3] or field[2].encode() not in named]
    return changed_fields(fields, change)


def _with_known_options(field: Field) -> Field:
    if field[3] != Special.CONNECTION:
        return field
    return make_field(field[0], b", ".join(sorted(tokens(field[1]) & KNOWN_OPTIONS)))


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


def value_in_head(head: bytes, name: bytes) -> bytes | None:
    """The value of the first field called `name` (lower case) in a head that was written here, or None."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip(b" \t")
    return None
