"""What a well-formed HTTPRoute may still not ask for: unusable patterns, and paths that no request can have.

A route that does is rejected as a whole.  (Of our own kinds the schemas say such things.)  What is unknown to this
release rejects one rule of a route; see nodeagent.config.rule_faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError, FieldPath
from nodeagent.config.reading import normal_path
from nodeagent.config.rule_faults import PATH_TYPES
from nodeagent.core.model import PathKind
from nodeagent.core.paths import PathError
from nodeagent.regex import RegexError, compile_regex


def unsupported(kind: str, value: dict[str, Any]) -> list[FieldError]:
    """Violations of an object that passed its schema."""
    if kind == "HTTPRoute":
        return list(_route_errors(value["spec"]))
    return []


def _route_errors(spec: dict[str, Any]) -> Iterator[FieldError]:
    for index, rule in enumerate(spec.get("rules") or []):
        path: FieldPath = ("spec", "rules", index)
        for number, match in enumerate(rule.get("matches") or []):
            yield from _match_errors(match, (*path, "matches", number))


def _match_errors(match: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    if match.get("path"):
        yield from _path_errors(match["path"], (*path, "path"))
    for name in ("headers", "queryParams"):
        for index, item in enumerate(match.get(name) or []):
            yield from _pattern_errors(item, (*path, name, index))


def _path_errors(item: dict[str, Any], path: FieldPath) -> Iterator[FieldError]:
    if item.get("type") == "RegularExpression":
        yield from _pattern_errors(item, path)
        if not (item.get("value") or "").isascii():
            yield FieldError((*path, "value"), "can never match: paths are judged percent-encoded (\u00e9 is %C3%A9)")
        return
    if item.get("type") not in (None, *PATH_TYPES):
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
