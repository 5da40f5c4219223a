"""HTTPRoute matching: does a rule match a request head, and which rule comes first.

Precedence is Gateway API's: Exact path, then (ours to choose) RegularExpression, then the longest
PathPrefix, then a method, most headers, most query parameters; then the oldest route, its
`namespace/name`, and the position in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import unquote_plus

from nodeagent.core.model import PathKind, RequestHead, Rule, ValueMatch
from nodeagent.core.paths import respell

Regex = Callable[[str], Callable[[str], bool]]  # pattern -> full-match test

_PATH_RANK = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2}

Precedence = tuple[int, int, bool, int, int, str, str, int, int]


def precedence(rule: Rule, created: str, rule_index: int, match_index: int) -> Precedence:
    """Sort key of a rule among all that apply; smaller wins.  `created` is RFC 3339 UTC; "" (unknown) sorts last."""
    return (
        _PATH_RANK[rule.path_kind],
        -len(rule.path),
        not rule.method,
        -len(rule.headers),
        -len(rule.query),
        created or "~",
        rule.route,
        rule_index,
        match_index,
    )


def first_match(rules: Iterable[Rule], head: RequestHead, regex: Regex) -> Rule | None:
    """The first of `rules`, sorted by precedence, that matches."""
    return next((rule for rule in rules if rule_matches(rule, head, regex)), None)


def rule_matches(rule: Rule, head: RequestHead, regex: Regex) -> bool:
    return not mismatch(rule, head, regex)


def mismatch(rule: Rule, head: RequestHead, regex: Regex) -> str:
    """Which part of the rule does not match ("path", "method", "header x", "query x"); "" when all do."""
    if not path_matches(rule.path_kind, rule.path, head.path, regex):
        return "path"
    if rule.method and rule.method != head.method:
        return "method"
    for header in rule.headers:
        if not value_matches(header, header_value(head.headers, header.name), regex):
            return f"header {header.name}"
    for parameter in rule.query:
        if not value_matches(parameter, query_value(head.query, parameter.name), regex):
            return f"query {parameter.name}"
    return ""


def path_matches(kind: PathKind, value: str, path: str, regex: Regex) -> bool:
    """Judge a normal form.  A prefix matches whole segments: `/v2` matches `/v2` and `/v2/x`, not `/v2x`."""
    if kind is PathKind.REGEX:
        return regex(value)(path)
    if "%" in path or "%" in value:
        path, value = respell(path), respell(value)
    if kind is PathKind.EXACT:
        return path == value
    prefix = value.rstrip("/")
    return not prefix or path == prefix or path.startswith(prefix + "/")


def value_matches(match: ValueMatch, value: str | None, regex: Regex) -> bool:
    if value is None:
        return False
    return regex(match.value)(value) if match.regex else match.value == value


def header_value(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """All values of a header joined by commas (RFC 9110 5.2), or None when it is absent."""
    values = [value for key, value in headers if key == name]
    return field_text(",".join(values)) if values else None


def header_values(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`header_value` of every name there is."""
    pairs = tuple(headers)
    found = dict(pairs)
    if len(found) < len(pairs):
        found = {}
        for name, value in pairs:
            found[name] = f"{found[name]},{value}" if name in found else value
    if not "".join(found.values()).isascii():
        return {name: field_text(value) for name, value in found.items()}
    return found


def field_text(value: str) -> str:
    """A field value as its sender means it: UTF-8 if its bytes are that, else ISO 8859-1 (RFC 9110 5.5)."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def field_spellings(value: str) -> tuple[str, ...]:
    """Every way a server may read it: by byte, and as UTF-8 with a mark for each byte that is none."""
    if value.isascii():
        return (value,)
    return (value, value.encode("latin-1").decode(errors="replace"))


def query_value(query: str, name: str) -> str | None:
    """The decoded value of the first parameter called `name`, or None."""
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name or unquote_plus(key) == name:
            return unquote_plus(value) if pair else None
    return None


def query_values(query: str) -> dict[str, str | None]:
    """`query_value` of every name there is."""
    found: dict[str, str | None] = {}
    for pair in query.split("&"):
        key, _, text = pair.partition("=")
        value = _unquoted(text) if pair else None
        found.setdefault(key, value)
        found.setdefault(_unquoted(key), value)
    return found


def _unquoted(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text
