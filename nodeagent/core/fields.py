"""What header field names and values mean to the data path: which are special, tokens of a list, hosts.

Names and short values repeat on nearly every message, so what is derived from them is remembered, with a bound:
a peer that invents names costs time, never memory.
"""

from __future__ import annotations

import enum
from functools import lru_cache

from nodeagent.core.hosts import HostError, parse_host
from nodeagent.core.refusals import refuse_request

Field = tuple[bytes, bytes, str, int, bytes]
"""Name as received, value without surrounding whitespace, name in lower case, Special, the line to forward."""
Fields = list[Field]
"""Header fields in order."""


class Special(enum.IntEnum):
    """Why a field is not simply copied.  Zero, and so false, for the rest."""

    ORDINARY = 0
    HOST = 1
    CONTENT_LENGTH = 2
    TRANSFER_ENCODING = 3
    CONNECTION = 4
    UPGRADE = 5
    EXPECT = 6
    TE = 7
    KEEP_ALIVE = 8
    DROPPED = 9  # hop-by-hop, and of no use to us


SPECIAL = {
    "host": Special.HOST,
    "content-length": Special.CONTENT_LENGTH,
    "transfer-encoding": Special.TRANSFER_ENCODING,
    "connection": Special.CONNECTION,
    "upgrade": Special.UPGRADE,
    "expect": Special.EXPECT,
    "te": Special.TE,
    "keep-alive": Special.KEEP_ALIVE,
    "proxy-connection": Special.DROPPED,
    "proxy-authenticate": Special.DROPPED,
    "proxy-authorization": Special.DROPPED,
    "proxy-authentication-info": Special.DROPPED,
}

NEVER_HOP_BY_HOP = frozenset(
    b"host content-length transfer-encoding content-type content-encoding authorization cookie set-cookie "
    b"cache-control date expires location range vary www-authenticate".split()
)
"""Fields meant for every recipient: a Connection header that names one would strip it on the way (RFC 9110 7.6.1)."""

FORBIDDEN_TRAILERS = NEVER_HOP_BY_HOP | frozenset(
    b"connection keep-alive te trailer upgrade expect max-forwards proxy-authenticate proxy-authorization "
    b"proxy-connection age pragma content-range if-match if-none-match if-modified-since if-unmodified-since".split()
)
"""Fields that mean something before the body only (RFC 9110 6.5.1); dropped from a trailer section."""

SECRET = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))
"""Fields whose values are not kept in memory after their message."""

_MAX_NAMES = 2048


class FieldNames(dict[bytes, tuple[str, int]]):
    """name as received -> (lower-case text, Special).  Grows to a bound, then computes."""

    def __missing__(self, name: bytes) -> tuple[str, int]:
        lower = name.decode("latin-1").lower()
        known = (lower, int(SPECIAL.get(lower, Special.ORDINARY)))
        if len(self) < _MAX_NAMES and len(name) <= 64:
            self[name] = known
        return known


_NAMES = FieldNames()


def make_field(name: bytes, value: bytes) -> Field:
    lower, special = _NAMES[name]
    return name, value, lower, special, b"%b: %b" % (name, value)


def tokens(value: bytes) -> frozenset[bytes]:
    """Lower-case members of a comma-separated list."""
    return _short_tokens(value) if len(value) <= _MAX_KEPT else _tokens(value)


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token for part in value.lower().split(b",") if (token := part.strip(b" \t")))


_MAX_KEPT = 256
"""Longer values are not remembered: a peer chooses them, and they would be kept outside of every budget."""
_short_tokens = lru_cache(maxsize=512)(_tokens)
_MAX_HOST = 261
"""A name has 253 characters at most (RFC 1035 2.3.4); a root dot, a colon and five digits may follow."""


@lru_cache(maxsize=1024)
def host_of(value: bytes) -> str:
    """The host that rules judge: lower case, without port and final dot.  Raises Refused; "" is refused too.

    Narrower than RFC 3986: percent-encoding and sub-delims are refused, because an upstream may read them as
    another name than the one judged.
    """
    if len(value) > _MAX_HOST:
        raise refuse_request("host-invalid")
    try:
        host = parse_host(value.decode("ascii"))
    except (HostError, UnicodeDecodeError) as error:
        raise refuse_request("host-invalid") from error
    if not host:
        raise refuse_request("host-invalid")
    return host
