"""What the `http` part of an AuthorizationPolicy's rule may match: methods, paths, hosts, headers.

Stricter than HTTPRoute: a path or pattern that no request can have would make a DENY deny nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel, quoted
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text
from nodeagent.config.schemas.common import DOT_SEGMENTS, HEADER_NAME, PATH_TEXT, REFUSED_IN_PATHS, path_fault
from nodeagent.core.hosts import HostError, parse_host
from nodeagent.core.paths import PathError, normalize
from nodeagent.regex import MAX_PATTERN, RegexError, compile_regex

_PLAIN = "self.type == 'RegularExpression' || "
_REGEX = "self.type != 'RegularExpression' || "
_OPTIONAL_REGEX = "!has(self.type) || " + _REGEX
_TWO_READINGS = r"%5[Cc]|%00|/(\.|%2[Ee]){1,2}(;|%3[Bb])"
_LISTS = ("methods", "paths", "hosts", "headers")


def _plain(condition: str, message: str) -> Cel:
    return Cel(_PLAIN + condition, "value " + message, ".value")


def _compiles(unless: str) -> tuple[Cel, Cel]:
    """`in` passes on the error of a pattern that does not compile, where `||` would swallow it."""
    return (
        Cel(f"{unless}''.matches(self.value) in [true, false]", "value must be an RE2 expression", ".value"),
        Cel(f"{unless}self.value.size() <= {MAX_PATTERN}", f"value: at most {MAX_PATTERN} characters", ".value"),
    )


@in_cel(
    _plain("self.value.startsWith('/')", "must start with a slash"),
    *(_plain(f"!self.value.contains('{part}')", f"must not contain '{part}'") for part in REFUSED_IN_PATHS),
    *(_plain(f"!self.value.endsWith('{part}')", "must not end with a dot segment") for part in DOT_SEGMENTS),
    _plain(f"self.value.matches({quoted(f'^({PATH_TEXT})*$')})", "must only contain characters of a URI path"),
    _plain(
        f"!self.value.matches({quoted(_TWO_READINGS)})",
        "can never match: servers read an escaped backslash or NUL, and a dot segment with parameters, in two ways",
    ),
)
def plain_path_can_be_a_requests(path: dict[str, Any]) -> Iterator[FieldError]:
    """Exact and PathPrefix values are well-formed, and have the one normal form in which requests are judged."""
    if path["type"] == "RegularExpression":
        return
    fault = path_fault(path["value"])
    try:
        normalize(path["value"])
    except PathError as error:
        fault = fault or f"can never match: {error.reason}"
    if fault:
        yield FieldError(("value",), f"{path['value']!r} {fault}")


@in_cel(Cel(rf"{_REGEX}self.value.matches(r'^[\x00-\x7f]*$')", "value can never match: paths are ASCII", ".value"))
def path_pattern_is_ascii(path: dict[str, Any]) -> Iterator[FieldError]:
    if path["type"] == "RegularExpression" and not path["value"].isascii():
        yield FieldError(("value",), "can never match: paths are judged percent-encoded (\u00e9 is %C3%A9)")


def _pattern_fault(item: dict[str, Any]) -> Iterator[FieldError]:
    if item.get("type") != "RegularExpression":
        return
    try:
        compile_regex(item["value"])
    except RegexError as error:
        too_large = "too large" in str(error)  # to compile within our bound, of which the API server knows nothing
        yield FieldError(("value",), str(error), beyond=too_large)


@in_cel(*_compiles(_REGEX))
def path_pattern_compiles(path: dict[str, Any]) -> Iterator[FieldError]:
    yield from _pattern_fault(path)


@in_cel(*_compiles(_OPTIONAL_REGEX))
def header_pattern_compiles(header: dict[str, Any]) -> Iterator[FieldError]:
    yield from _pattern_fault(header)


@in_cel(
    *(
        Cel(f"!has(self.{name}) || self.{name}.size() > 0", f"{name} must not be empty: leave it out", f".{name}")
        for name in _LISTS
    ),
    Cel(
        " || ".join(f"has(self.{name})" for name in _LISTS),
        "http must set at least one of methods, paths, hosts, headers; leave it out to match any request",
    ),
)
def http_matches_something(http: dict[str, Any]) -> Iterator[FieldError]:
    """`http: {}` would match every request, `methods: []` none or every one: say what is meant."""
    for name, value in http.items():
        if value == []:
            yield FieldError((name,), "must not be empty: leave the field out to match any")
    if not any(http.values()):
        yield FieldError(
            (), "must set at least one of methods, paths, hosts, headers; leave http out to match any request"
        )


@in_cel(
    Cel(
        "!self.startsWith('[') || self.endsWith(']') && isIP(self.substring(1, self.size() - 1)) "
        "&& ip(self.substring(1, self.size() - 1)).family() == 6",
        "must be a host: what is in brackets is no IPv6 address (an IPv4 address is written without brackets)",
    )
)
def host_fault(text: str) -> str:
    """What keeps a host of the right characters from being one, or ""."""
    try:
        host = parse_host(text.removeprefix("*."))
    except HostError as error:
        return f"{text!r} is not a host: {error.reason}"
    if host.startswith("[") and ipaddress.IPv6Address(host[1:-1]).ipv4_mapped:
        return f"{text!r} is not a host that requests have: write the IPv4 address"
    return ""


PATH = Fields(
    {"type": Text(enum=("Exact", "PathPrefix", "RegularExpression")), "value": Text(least=1, most=1024)},
    ("type", "value"),
    rules=(plain_path_can_be_a_requests, path_pattern_is_ascii, path_pattern_compiles),
)
_HOST = Text(
    pattern=r"(\*\.)?[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*|\[[0-9a-f:.]+\]",
    shape='a host in lower case without a port, or "*." and one',
    least=1,
    most=253,
    check=host_fault,
)
_HEADER = Fields(
    {"type": Text(enum=("Exact", "RegularExpression")), "name": HEADER_NAME, "value": Text(least=1, most=4096)},
    ("name", "value"),
    rules=(header_pattern_compiles,),
)
HTTP = Fields(
    {
        "methods": Items(Text(pattern=r"[A-Z][A-Z-]{0,31}", shape="a method in upper case", most=32), most=16),
        "paths": Items(PATH, most=16),
        "hosts": Items(_HOST, most=16),
        "headers": Items(_HEADER, most=16),
    },
    rules=(http_matches_something,),
)
