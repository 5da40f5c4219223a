"""HTTPRoute filters as values, and what each makes of a message: header changes, redirects, URL rewrites.

Pure.  Rules and policies judge a request as it came; filters apply to what was judged, and only to what they
declare.  Framing and the fields of one hop are no filter's business: `changed_fields` leaves them alone, whatever
a change says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.core.fields import Field, Fields, Special, make_field

WELL_KNOWN_PORTS = {"http": 80, "https": 443}
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """Fields called `dropped` (lower case) go, then `added` come at the end: "set" is both, "remove" the former."""

    dropped: frozenset[str] = frozenset()
    added: tuple[Field, ...] = ()

    def then(self, later: HeaderChange) -> HeaderChange:
        """Both, in order, as one."""
        kept = tuple(field for field in self.added if field[2] not in later.dropped)
        return HeaderChange(self.dropped | later.dropped, kept + later.added)


@dataclass(frozen=True, slots=True)
class PathChange:
    """`value` replaces the part of a path that `prefix` matched, or all of it when that is None."""

    value: str
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Empty fields: as in the request; `port` 0: by the scheme if one is given, else the port that was dialled."""

    status: int = 302
    scheme: str = ""
    hostname: str = ""
    port: int = 0
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`hostname` becomes the Host of the forwarded request; "" keeps it."""

    hostname: str = ""
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a rule or of a backendRef."""

    request: HeaderChange | None = None
    response: HeaderChange | None = None
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None

    @property
    def change_paths(self) -> bool:
        return any(one is not None and one.path is not None for one in (self.redirect, self.rewrite))


NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class Changes:
    """What filters of a rule and of the chosen backendRef together make of a request and its response.

    `is_for_one`: made for one request, and for no other that goes the same way.
    """

    request: HeaderChange | None = None
    response: HeaderChange | None = None
    rewrite: Rewrite | None = None
    is_for_one: bool = False


def header_change(setting: Pairs = (), adding: Pairs = (), removing: Iterable[str] = ()) -> HeaderChange:
    """Removed first, then set, then added: a name in two lists ends with the values given."""
    setting = tuple(setting)
    dropped = frozenset(name.lower() for name in (*removing, *(name for name, _ in setting)))
    given = (*setting, *adding)
    return HeaderChange(dropped, tuple(make_field(name.encode(), value.encode()) for name, value in given))


def changes_of(rule: Filters, backend: Filters = NO_FILTERS) -> Changes | None:
    """The rule's filters, then the backendRef's; None when they change nothing."""
    request, response = _both(rule.request, backend.request), _both(rule.response, backend.response)
    rewrite = _both_rewrites(rule.rewrite, backend.rewrite)
    if request is None and response is None and rewrite is None:
        return None
    return Changes(request, response, rewrite)


def _both_rewrites(first: Rewrite | None, second: Rewrite | None) -> Rewrite | None:
    """Host and path each by the latter that speaks of it; both say what becomes of the path that was asked for."""
    if first is None or second is None:
        return first or second
    return Rewrite(second.hostname or first.hostname, second.path or first.path)


def _both(first: HeaderChange | None, second: HeaderChange | None) -> HeaderChange | None:
    return first.then(second) if first and second else first or second


def changed_fields(fields: Fields, change: HeaderChange) -> Fields:
    """New fields; those with a meaning of their own to the connection (Special) stay as they are."""
    dropped = change.dropped
    kept = [field for field in fields if field[3] or field[2] not in dropped]
    return kept + [field for field in change.added if not field[3]]


def with_host(fields: Fields, host: bytes) -> Fields:
    """New fields with another Host, in the same place."""
    return [make_field(field[0], host) if field[3] == Special.HOST else field for field in fields]


def changed_path(path: str, change: PathChange) -> str:
    """Whole segments only: the prefix was matched by segments, and an escape may spell one otherwise than the rule."""
    if not path.startswith("/"):
        return path  # "*" is no path
    if change.prefix is None:
        return change.value or "/"
    count = change.prefix.rstrip("/").count("/")
    parts = path.split("/", count + 1)
    rest = "/" + parts[-1] if len(parts) > count + 1 else ""
    return change.value.rstrip("/") + rest or "/"


def rewritten_target(target: str, change: PathChange) -> str:
    """Path and query; the query stays."""
    path, mark, query = target.partition("?")
    return changed_path(path, change) + mark + query


def redirect_location(redirect: Redirect, host: str, dialled_port: int, target: str) -> str:
    """The absolute URL to go to.  A port that its scheme implies is left out, as Gateway API asks."""
    scheme = redirect.scheme or "http"
    port = redirect.port or WELL_KNOWN_PORTS.get(redirect.scheme, dialled_port)
    shown = "" if port == WELL_KNOWN_PORTS[scheme] else f":{port}"
    if redirect.path is not None:
        target = rewritten_target(target, redirect.path)
    where = "" if target == "*" else target  # RFC 9112 3.2.4: the server as a whole has an empty path
    return f"{scheme}://{redirect.hostname or host}{shown}{where}"


def described(filters: Filters) -> list[str]:
    """One line for each thing that the filters do, for people."""
    lines = _described_headers("request", filters.request) + _described_headers("response", filters.response)
    if filters.rewrite is not None:
        host = [f"rewrite host to {filters.rewrite.hostname}"] if filters.rewrite.hostname else []
        lines += host + _described_path("rewrite", filters.rewrite.path)
    if filters.redirect is not None:
        lines.append(_described_redirect(filters.redirect))
    return lines


def _described_redirect(redirect: Redirect) -> str:
    given = {"scheme": redirect.scheme, "host": redirect.hostname, "port": redirect.port}
    parts = [f"{name} {value}" for name, value in given.items() if value]
    return " ".join((f"redirect with {redirect.status}", *parts, *_described_path("and replace", redirect.path)))


def _described_headers(message: str, change: HeaderChange | None) -> list[str]:
    if change is None:
        return []
    given = {field[2] for field in change.added}
    lines = [f"remove {message} header {name}" for name in sorted(change.dropped - given)]
    left = set(change.dropped)
    for name, value, lower, _, _ in change.added:
        verb = "set" if lower in left else "add"
        left.discard(lower)  # a second value of a name that is set is added to the first
        lines.append(f"{verb} {message} header {name.decode()}: {value.decode()}")
    return lines


def _described_path(verb: str, change: PathChange | None) -> list[str]:
    if change is None:
        return []
    if change.prefix is None:
        return [f"{verb} path with {change.value}"]
    return [f"{verb} path prefix {change.prefix} with {change.value or '/'}"]
