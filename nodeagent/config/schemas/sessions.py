"""`retry` (GEP-1731) and `sessionPersistence` (GEP-1619) of HTTPRoute rules, of Gateway API's experimental channel.

The latter has two spellings: `cookie` and `header`, and, up to Gateway API 1.5, `sessionName` and `cookieConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text, Whole
from nodeagent.config.schemas.common import HEADER_NAME
from nodeagent.config.schemas.durations import DURATION
from nodeagent.config.schemas.filters import header_fault
from nodeagent.core.durations import milliseconds

SESSION_TYPES = ("Cookie", "Header")
LIFETIME_TYPES = ("Session", "Permanent")
_HEADER_FIELDS, _COOKIE_FIELDS = ("header",), ("cookie", "cookieConfig")


def cookie_path_fault(path: str) -> str:
    """RFC 6265 4.1.1 path-value, and absolute: anything else is no scope that a browser could apply."""
    if not path.startswith("/"):
        return "must start with a slash"
    if not path.isascii() or not path.isprintable() or ";" in path:
        return "must hold printable ASCII without a semicolon"
    return ""


def permanent_sessions_have_an_end(session: dict[str, Any]) -> Iterator[FieldError]:
    for name in _COOKIE_FIELDS:
        lifetime = (session.get(name) or {}).get("lifetimeType")
        if lifetime == "Permanent" and not milliseconds(session.get("absoluteTimeout") or ""):
            yield FieldError(("absoluteTimeout",), f"required value is missing: {name}.lifetimeType is Permanent")


def session_is_what_its_type_says(session: dict[str, Any]) -> Iterator[FieldError]:
    kind = session.get("type") or "Cookie"
    for name in {"Cookie": _HEADER_FIELDS, "Header": _COOKIE_FIELDS}.get(kind, ()):
        if session.get(name) is not None:
            yield FieldError((name,), f"must not be given when the type is {kind}")


def spellings_are_not_mixed(session: dict[str, Any]) -> Iterator[FieldError]:
    now = [name for name in ("cookie", "header") if session.get(name) is not None]
    for name in ("sessionName", "cookieConfig"):
        if now and session.get(name) is not None:
            yield FieldError((name,), f"must not be given with {now[0]}, which took its place in Gateway API 1.6")


def session_header_is_ordinary(session: dict[str, Any]) -> Iterator[FieldError]:
    header, named = (session.get("header") or {}).get("name"), session.get("sessionName")
    name = header or (named if session.get("type") == "Header" else None)
    fault = header_fault(name) if name else ""
    if fault:
        yield FieldError(("header", "name") if header else ("sessionName",), f"{name!r} {fault}")


_LIFETIME = Text(least=1)
_TOKEN = Text(pattern=HEADER_NAME.pattern, shape="a name of letters, digits and !#$%&'*+-.^_`|~", least=1, most=128)
RETRY = Fields({"codes": Items(Whole(400, 599)), "attempts": Whole(0), "backoff": DURATION})
SESSION_PERSISTENCE = Fields(
    {
        "type": Text(least=1),
        "absoluteTimeout": DURATION,
        "cookie": Fields(
            {"name": _TOKEN, "path": Text(least=1, most=1024, check=cookie_path_fault), "lifetimeType": _LIFETIME}
        ),
        "header": Fields({"name": HEADER_NAME}),
        "sessionName": _TOKEN,
        "cookieConfig": Fields({"lifetimeType": _LIFETIME}),
    },
    rules=(
        permanent_sessions_have_an_end,
        session_is_what_its_type_says,
        spellings_are_not_mixed,
        session_header_is_ordinary,
    ),
)
