"""What a well-formed object may still not ask for: features of a later release, and unusable patterns.

A route that uses one is rejected as a whole: half a route would send requests where nobody meant
them to go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError, FieldPath
from nodeagent.config.reading import normal_path
from nodeagent.config.schemas.filters import BACKEND_TYPES, CONFIGURED_BY
from nodeagent.core.model import PathKind
from nodeagent.core.paths import PathError
from nodeagent.regex import RegexError, compile_regex

_LATER = "is not supported by this release; the whole route is rejected, because it would be applied by half"
_SHOWN = 60  # characters of a value that is quoted


def unsupported(kind: str, value: dict[str, Any]) -> list[FieldError]:
    """Violations of an object that passed its schema."""
    if kind == "HTTPRoute":
        return list(_route_errors(value["spec"]))
    if kind == "AuthorizationPolicy":
        return list(_policy_errors(value["spec"]))
    return []


def _route_errors(spec: dict[str, Any]) -> Iterator[FieldError]:
    for index, rule in enumerate(spec.get("rules") or []):
        path: FieldPath = ("spec", "rules", index)
        yield from _later_features(rule, path)
        for number, match in enumerate(rule.get("matches") or []):
            yield from _match_errors(match, (*path, "matches", number))


def _later_features(rule: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    yield from _later_filters(rule, path, tuple(CONFIGURED_BY))
    for index, backend in enumerate(rule.get("backendRefs") or []):
        yield from _later_filters(backend, (*path, "backendRefs", index), BACKEND_TYPES)


def _later_filters(owner: dict[str, Any], path: FieldPath, supported: tuple[str, ...]) -> Iterator[FieldError]:
    """A filter that is not applied must not be skipped either: the request would go where nobody meant it to."""
    for index, one in enumerate(owner.get("filters") or []):
        if one["type"] not in supported:
            at, listed = (*path, "filters", index, "type"), ", ".join(supported)
            yield FieldError(at, f"{_shown(one['type'])} {_LATER}; supported here: {listed}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _match_errors(match: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    if match.get("path"):
        yield from _path_errors(match["path"], (*path, "path"))
    for name in ("headers", "queryParams"):
        for index, item in enumerate(match.get(name) or []):
            yield from _pattern_errors(item, (*path, name, index))


def _policy_errors(spec: dict[str, Any]) -> Iterator[FieldError]:
    for index, rule in enumerate(spec.get("rules") or []):
        http = rule.get("http") or {}
        path: FieldPath = ("spec", "rules", index, "http")
        for number, item in enumerate(http.get("paths") or []):
            yield from _path_errors(item, (*path, "paths", number))
        for number, item in enumerate(http.get("headers") or []):
            yield from _pattern_errors(item, (*path, "headers", number))


def _path_errors(item: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    if item.get("type") == "RegularExpression":
        yield from _pattern_errors(item, path)
        if not (item.get("value") or "").isascii():
            yield FieldError((*path, "value"), "can never match: paths are judged percent-encoded (\u00e9 is %C3%A9)")
        return
    try:
        normal_path(PathKind.EXACT, item.get("value") or "/")
    except PathError as error:
        yield FieldError((*path, "value"), f"can never match: {error.reason}")


def _pattern_errors(item: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    if item.get("type") != "RegularExpression":
        return
    try:
        compile_regex(item.get("value") or "/")
    except RegexError as error:
        yield FieldError((*path, "value"), str(error))
