"""Where a request ends, what of its head is forwarded, and whether the client's connection outlives it."""

from __future__ import annotations

from nodeagent.core.fields import NEVER_HOP_BY_HOP, Field, Fields, Special, host_of, make_field, tokens
from nodeagent.core.filters import Changes, changed_fields, rewritten_target, with_host
from nodeagent.core.framing import KNOWN_OPTIONS, MAX_LENGTH_DIGITS, NOTHING, Body
from nodeagent.core.refusals import refuse_request


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
            self._head = self._make_head(self.target, self.fields, self.hop)
        return self._head

    def changed_head(self, changes: Changes) -> bytes:
        """The same after a route's filters; the plan itself stays, for it may be that of other requests too."""
        return self._make_head(*self._changed(changes), self.hop)

    def copied_head(self, changes: Changes | None) -> bytes:
        """For a mirror: as it is forwarded, but for what asks something of this hop (an upgrade, a 100, trailers)."""
        return self._make_head(*(self._changed(changes) if changes else (self.target, self.fields)), ())

    def _changed(self, changes: Changes) -> tuple[bytes, Fields]:
        target, fields, rewrite = self.target, self.fields, changes.rewrite
        if changes.request is not None:
            fields = changed_fields(fields, changes.request)
        if rewrite is not None and rewrite.hostname:
            fields = with_host(fields, rewrite.hostname.encode("ascii"))
        if rewrite is not None and rewrite.path is not None:
            target = rewritten_target(target.decode("ascii"), rewrite.path).encode("ascii")
        return target, fields

    def _make_head(self, target: bytes, fields: Fields, hop: tuple[Field, ...]) -> bytes:
        lines = [field[4] for field in fields]
        lines += [field[4] for field in hop]
        return b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (self.method.encode(), target, b"\r\n".join(lines))


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
        self.options = NOTHING
        self.upgrade = b""
        self.expect = b""
        self.te_trailers = False


def _replace_host(plan: RequestPlan, seen: _RequestSeen, authority: bytes) -> None:
    """RFC 9112 3.2.2: the authority of an absolute-form target is the host, whatever Host says."""
    seen.host = authority
    plan.fields[:] = with_host(plan.fields, authority)


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
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
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
    named = options - KNOWN_OPTIONS
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
