"""What keeps a rule of a well-formed HTTPRoute, or one of its backendRefs, from being applied as it is written.

Gateway API adds values to its enums, and lets routes refer to filters that an implementation may not have.  Such a
filter must not be skipped: requests that it would have processed are answered 500.  So are those of a rule with
any other value that is unknown here; the route's other rules are in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nodeagent.config.problems import FieldPath
from nodeagent.config.resources import INVALID_KIND, UNSUPPORTED_VALUE, RuleFault
from nodeagent.config.schemas.common import METHODS
from nodeagent.config.schemas.filters import BACKEND_TYPES, CORS_METHODS, PATH_CHANGES, RULE_TYPES, STATUS_CODES
from nodeagent.config.schemas.sessions import LIFETIME_TYPES, SESSION_TYPES
from nodeagent.core.decide import FILTER_NOT_FOUND, UNSUPPORTED
from nodeagent.core.filters import WELL_KNOWN_PORTS
from nodeagent.core.model import PathKind

Value = dict[str, Any]

PATH_TYPES = tuple(kind.value for kind in PathKind)
VALUE_TYPES = ("Exact", "RegularExpression")
_SHOWN = 60  # characters of a value that is quoted


def rule_fault(rule: Value) -> RuleFault | None:
    """The first, in the order of the fields."""
    return next(_rule_faults(rule), None)


def backend_fault(backend: Value, at: FieldPath) -> RuleFault | None:
    """Only requests that are drawn for this backend meet it.  `at` is where in the rule the backendRef is."""
    return next(_filter_faults(backend, at, BACKEND_TYPES), None)


def clear_part(match: Value) -> Value:
    """The match without what cannot be judged: it takes more than was meant, but never less."""
    clear = {name: value for name, value in match.items() if name != "path"}
    path = match.get("path")
    if path and _type(path, "PathPrefix") in PATH_TYPES:
        clear["path"] = path
    for name in ("headers", "queryParams"):
        if match.get(name):
            clear[name] = [one for one in match[name] if _type(one, "Exact") in VALUE_TYPES]
    return clear


def is_vague(match: Value) -> bool:
    """A part of it cannot be judged.  A method can, whatever it is."""
    return any(fault.field[-1] == "type" for fault in _match_faults(match, ()))


def _rule_faults(rule: Value) -> Iterator[RuleFault]:
    for number, match in enumerate(rule.get("matches") or []):
        yield from _match_faults(match, ("matches", number))
    yield from _filter_faults(rule, (), RULE_TYPES)
    yield from _session_faults(rule.get("sessionPersistence") or {}, ("sessionPersistence",))


def _match_faults(match: Value, at: FieldPath) -> Iterator[RuleFault]:
    yield from _unknown(_type(match.get("path"), "PathPrefix"), PATH_TYPES, (*at, "path", "type"))
    yield from _unknown(match.get("method"), METHODS, (*at, "method"))
    for name in ("headers", "queryParams"):
        for index, item in enumerate(match.get(name) or []):
            yield from _unknown(_type(item, "Exact"), VALUE_TYPES, (*at, name, index, "type"))


def _type(item: Value | None, default: str) -> str:
    return (item or {}).get("type") or default


def _filter_faults(owner: Value, at: FieldPath, supported: tuple[str, ...]) -> Iterator[RuleFault]:
    for index, one in enumerate(owner.get("filters") or []):
        where = (*at, "filters", index)
        if one["type"] == "ExtensionRef":
            yield RuleFault(INVALID_KIND, FILTER_NOT_FOUND, (*where, "extensionRef"), _unresolved(one["extensionRef"]))
        elif one["type"] not in supported:
            yield _unsupported(one["type"], supported, (*where, "type"), FILTER_NOT_FOUND)
        else:
            yield from _value_faults(one, where)


def _unresolved(reference: Value) -> str:
    group, kind = _shown(reference["group"]), _shown(reference["kind"])
    return f"{kind} of group {group} is no filter that this release can apply, and none is ever skipped"


def _value_faults(one: Value, at: FieldPath) -> Iterator[RuleFault]:
    """Values inside of a filter whose type is known."""
    yield from _method_faults(one.get("cors") or {}, (*at, "cors"))
    for name in ("requestRedirect", "urlRewrite"):
        content = one.get(name) or {}
        yield from _unknown((content.get("path") or {}).get("type"), PATH_CHANGES, (*at, name, "path", "type"))
        yield from _unknown(content.get("scheme"), tuple(WELL_KNOWN_PORTS), (*at, name, "scheme"))
        yield from _unknown(content.get("statusCode"), STATUS_CODES, (*at, name, "statusCode"))


def _session_faults(session: Value, at: FieldPath) -> Iterator[RuleFault]:
    yield from _unknown(session.get("type"), SESSION_TYPES, (*at, "type"))
    for name in ("cookie", "cookieConfig"):
        lifetime = (session.get(name) or {}).get("lifetimeType")
        yield from _unknown(lifetime, LIFETIME_TYPES, (*at, name, "lifetimeType"))


def _method_faults(cors: Value, at: FieldPath) -> Iterator[RuleFault]:
    for index, method in enumerate(cors.get("allowMethods") or []):
        yield from _unknown(method, CORS_METHODS, (*at, "allowMethods", index))


def _unknown(value: str | int | None, known: Iterable[str | int], at: FieldPath) -> Iterator[RuleFault]:
    if value is not None and value not in known:
        yield _unsupported(value, known, at, UNSUPPORTED)


def _unsupported(value: str | int, known: Iterable[str | int], at: FieldPath, reason: str) -> RuleFault:
    expected = ", ".join(map(str, known))
    return RuleFault(UNSUPPORTED_VALUE, reason, at, f"unsupported value {_shown(value)}: expected one of {expected}")


def _shown(value: str | int) -> str:
    return repr(value if isinstance(value, int) or len(value) <= _SHOWN else value[:_SHOWN] + "...")
