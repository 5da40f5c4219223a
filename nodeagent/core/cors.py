"""Cross-origin requests (the Fetch standard, 3.2; Gateway API's CORS filter, GEP-1767): who may, and what is said.

Browsers ask beforehand (a preflight), and look at the answer's fields; for everybody else they mean nothing.  The
filter speaks for the backend: what that says of its own in these fields is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.core.filters import WELL_KNOWN_PORTS, HeaderChange, header_change

ANY = "*"
_ORIGIN = re.compile(r"(https?)://([a-z0-9*._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_FIELDS = ("allow-origin", "allow-credentials", "expose-headers", "allow-methods", "allow-headers", "max-age")
_NAMES = tuple(f"access-control-{name}" for name in _FIELDS)
_MAX_ORIGIN = 300
"""Characters; a scheme, a name of 253 and a port have fewer."""

Headers = Iterable[tuple[str, str]]
Pairs = tuple[tuple[str, str], ...]
Origin = tuple[str, str, int]
"""Scheme, host, port.  In a filter the host may be "*", or begin with "*." = any labels, at least one."""


@dataclass(frozen=True, slots=True)
class Cors:
    """`any_origin`: "*".  Methods and header names as they were given; "*" stands alone.  `max_age`: seconds."""

    origins: tuple[Origin, ...] = ()
    any_origin: bool = False
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 5


def parse_origin(text: str) -> Origin | None:
    """None for what names no host, such as `null`.  Without a port that of the scheme is meant."""
    match = _ORIGIN.fullmatch(text.lower()) if len(text) <= _MAX_ORIGIN else None
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host, int(port) if port else WELL_KNOWN_PORTS[scheme]


def allows(cors: Cors, origin: str) -> bool:
    if cors.any_origin:
        return bool(origin) and len(origin) <= _MAX_ORIGIN and origin.isascii()
    asked = parse_origin(origin)
    return asked is not None and any(_matches(one, asked) for one in cors.origins)


def _matches(allowed: Origin, asked: Origin) -> bool:
    if (allowed[0], allowed[2]) != (asked[0], asked[2]):
        return False
    pattern, host = allowed[1], asked[1]
    if pattern == ANY:
        return True
    return host.endswith(pattern[1:]) and len(host) >= len(pattern) if pattern.startswith("*.") else host == pattern


def origin_of(headers: Headers) -> str | None:
    """None = no cross-origin request; "" = several, of which none can be meant."""
    found = [value for name, value in headers if name == "origin"]
    return None if not found else found[0] if len(found) == 1 else ""


def is_preflight(method: str, headers: Headers) -> bool:
    """Fetch 3.2.2: OPTIONS with an Origin and the method that is asked for."""
    if method != "OPTIONS":
        return False
    names = {name for name, _ in headers}
    return "origin" in names and "access-control-request-method" in names


def preflight_fields(cors: Cors, headers: Headers) -> Pairs:
    """What the answer to a preflight says; nothing of who may, where this origin may not."""
    origin = origin_of(headers) or ""
    if not allows(cors, origin):
        return () if cors.any_origin else (("vary", "Origin"),)
    methods = _listed(cors, cors.methods, _asked(headers, "access-control-request-method"))
    names = _listed(cors, cors.headers, _asked(headers, "access-control-request-headers"))
    said = (
        *_allowed_origin(cors, origin),
        ("access-control-allow-methods", methods),
        ("access-control-allow-headers", names),
        ("access-control-max-age", str(cors.max_age)),
    )
    return tuple(pair for pair in said if pair[1])


def response_change(cors: Cors, origin: str) -> HeaderChange:
    """What becomes of the response to a request with this Origin."""
    if not allows(cors, origin):
        return header_change(adding=() if cors.any_origin else (("Vary", "Origin"),), removing=_NAMES)
    exposed = "" if cors.credentials and ANY in cors.exposed else ", ".join(cors.exposed)
    more = (("access-control-expose-headers", exposed),) if exposed else ()
    return header_change(adding=(*_allowed_origin(cors, origin), *more), removing=_NAMES)


def _allowed_origin(cors: Cors, origin: str) -> Pairs:
    """An answer that depends on the origin says so, or a cache would give it to another one."""
    credentials = (("access-control-allow-credentials", "true"),) if cors.credentials else ()
    if cors.any_origin and not cors.credentials:
        return (("access-control-allow-origin", ANY),)
    return (("access-control-allow-origin", origin), ("vary", "Origin"), *credentials)


def _listed(cors: Cors, given: tuple[str, ...], asked: str) -> str:
    """With credentials "*" would be read as a name, so what was asked for is said in its place."""
    return asked if cors.credentials and ANY in given else ", ".join(given)


def _asked(headers: Headers, name: str) -> str:
    """All values; none that could not be sent back."""
    text = ", ".join(value for key, value in headers if key == name)
    return text if text.isascii() else ""


def described(cors: Cors) -> str:
    """For people."""
    origins = [f"{scheme}://{host}:{port}" for scheme, host, port in cors.origins]
    return f"allow cross-origin requests of {ANY if cors.any_origin else ', '.join(origins) or 'nobody'}"
