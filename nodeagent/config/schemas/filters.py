"""Filters of HTTPRoute rules and backendRefs: fields, limits and cross-field rules.

A filter of a type that this release does not know is let pass here, and so is any unknown value of an enum: they
reject their rule later, and not the route (nodeagent.config.rule_faults).  What else an unknown filter has is let pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError, FieldPath
from nodeagent.config.schema import Fields, Items, Text, Truth, Whole
from nodeagent.config.schemas.common import (
    GROUP,
    HEADER_NAME,
    KIND,
    METHODS,
    OBJECT_NAME,
    PORT,
    REFERENCE,
    path_fault,
    service_backend_has_port,
)
from nodeagent.core.cors import ANY, parse_origin
from nodeagent.core.fields import SPECIAL, Special
from nodeagent.core.paths import PathError, normalize

CONFIGURED_BY = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "RequestMirror": "requestMirror",
    "CORS": "cors",
    "ExtensionRef": "extensionRef",
}
"""Filter type -> the one field that says what it does."""
REPEATABLE = ("RequestMirror", "ExtensionRef")
"""Types that a list may have more than once."""
RULE_TYPES = (
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
    "RequestMirror",
    "CORS",
)
"""Those that are applied."""
BACKEND_TYPES = tuple(kind for kind in RULE_TYPES if kind != "RequestRedirect")
"""Those that are applied to a backendRef: one that is never sent a request is none."""
PATH_CHANGES = ("ReplaceFullPath", "ReplacePrefixMatch")
CORS_METHODS = (*METHODS, "*")
STATUS_CODES = (301, 302, 303, 307, 308)

_CONTROLS = frozenset(map(chr, (*range(9), *range(10, 32), 127)))
_NAME = Text(
    pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
    shape="a hostname (lower case, no port, no wildcard)",
    least=1,
    most=253,
)


UNCHANGEABLE = tuple(name for name, special in SPECIAL.items() if special != Special.ORDINARY)
"""Names of header fields, in lower case, that no filter and no limit's answer may have."""


def header_fault(name: str) -> str:
    """Why a filter must leave a field alone, or ""."""
    if name.lower() == "host":
        return "must not be changed as a header: use a URLRewrite filter with hostname"
    if name.lower() in UNCHANGEABLE:
        return "must not be changed: it belongs to the framing of the message or to one connection"
    return ""


@in_cel(
    Cel(r"!self.matches(r'[\x00-\x08\x0a-\x1f\x7f]')", "must not hold a control character"),
    Cel("!self.matches(r'^[ \\t]|[ \\t]$')", "must not start or end with a space: HTTP does not carry it"),
)
def value_fault(value: str) -> str:
    if any(character in _CONTROLS for character in value):
        return "holds a control character, which no header value may"
    if value != value.strip(" \t"):
        return "must not start or end with a space: HTTP does not carry it"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is no text that can be sent as UTF-8"
    return ""


def whole_path_fault(value: str) -> str:
    fault = path_fault(value)
    if fault:
        return f"{value!r} {fault}"
    try:
        normalize(value)
    except PathError as error:
        return f"{value!r} cannot be a path: {error.reason}"
    return ""


def prefix_fault(value: str) -> str:
    return whole_path_fault(value) if value else ""


def fields_may_be_changed(modifier: dict[str, Any]) -> Iterator[FieldError]:
    """No name that must be left alone."""
    for kind in ("set", "add", "remove"):
        for index, item in enumerate(modifier.get(kind) or []):
            at = (kind, index) if kind == "remove" else (kind, index, "name")
            name = item if kind == "remove" else item["name"]
            fault = header_fault(name)
            if fault:
                yield FieldError(at, f"{name!r} {fault}")


def path_is_given_by_type(path: dict[str, Any]) -> Iterator[FieldError]:
    """Of an unknown type nothing is known, so nothing is wrong with it either."""
    if path["type"] not in PATH_CHANGES:
        return
    for kind, name in zip(PATH_CHANGES, ("replaceFullPath", "replacePrefixMatch"), strict=True):
        if path["type"] == kind and path.get(name) is None:
            yield FieldError((name,), f"required value is missing: the type is {kind}")
        if path["type"] != kind and path.get(name) is not None:
            yield FieldError((name,), f"must not be given when the type is {path['type']}")


def mirror_has_one_share(mirror: dict[str, Any]) -> Iterator[FieldError]:
    if mirror.get("percent") is not None and mirror.get("fraction") is not None:
        yield FieldError(("fraction",), "must not be given with percent: both say how many requests are mirrored")


def fraction_is_at_most_one(fraction: dict[str, Any]) -> Iterator[FieldError]:
    most = fraction.get("denominator") or 100
    if fraction["numerator"] > most:
        yield FieldError(("numerator",), f"{fraction['numerator']} is larger than the denominator ({most})")


def origin_fault(origin: str) -> str:
    """Gateway API: scheme, host and perhaps a port; the host may begin with a wildcard label, or be one."""
    if origin == ANY:
        return ""
    parsed = parse_origin(origin)
    if parsed is None or ANY in parsed[1].removeprefix("*.").removeprefix(ANY) or parsed[1].startswith("["):
        return f"{origin!r} is no origin such as https://shop.example, https://*.example:8443, http://* or *"
    return "" if 0 < parsed[2] < 65536 else f"{origin!r} has no port that there could be"


def wildcards_stand_alone(cors: dict[str, Any]) -> Iterator[FieldError]:
    for name in ("allowOrigins", "allowMethods", "allowHeaders"):
        items = cors.get(name) or []
        if ANY in items and len(items) > 1:
            yield FieldError((name,), "must not hold '*' alongside others: it allows them all")


def filter_is_what_its_type_says(one: dict[str, Any]) -> Iterator[FieldError]:
    kind = one["type"]
    wanted = CONFIGURED_BY.get(kind)
    if wanted is None:
        return
    if one.get(wanted) is None:
        yield FieldError((wanted,), f"required value is missing: the type is {kind}")
    for name, value in one.items():
        if name not in ("type", wanted) and value is not None:
            yield FieldError((name,), f"must not be given when the type is {kind}")


def filters_go_together(filters: list[dict[str, Any]]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, one in enumerate(filters):
        kind = one["type"]
        if kind in seen and kind in CONFIGURED_BY and kind not in REPEATABLE:
            yield FieldError((index, "type"), f"duplicate value: a {kind} filter cannot be repeated")
        seen.add(kind)
    if seen >= {"RequestRedirect", "URLRewrite"}:
        yield FieldError((), "has a RequestRedirect and a URLRewrite filter; only one of them can take effect")


def redirects_have_no_backend(rule: dict[str, Any]) -> Iterator[FieldError]:
    redirects = any(one["type"] == "RequestRedirect" for one in rule.get("filters") or [])
    if redirects and rule.get("backendRefs"):
        yield FieldError(("backendRefs",), "must be empty: a rule with a RequestRedirect filter forwards nothing")


def replaced_prefix_is_the_only_match(rule: dict[str, Any]) -> Iterator[FieldError]:
    """Without matches, path or type a rule matches PathPrefix "/", as the API server defaults them."""
    matches = rule.get("matches") or [{}]
    kind = ((matches[0].get("path") or {}).get("type")) or "PathPrefix"
    if len(matches) == 1 and kind == "PathPrefix":
        return
    owners: list[tuple[FieldPath, dict[str, Any]]] = [((), rule)]
    owners += [(("backendRefs", index), ref) for index, ref in enumerate(rule.get("backendRefs") or [])]
    for at, owner in owners:
        yield from _replaced_prefixes(owner, at)


def _replaced_prefixes(owner: dict[str, Any], at: FieldPath) -> Iterator[FieldError]:
    for index, one in enumerate(owner.get("filters") or []):
        name = CONFIGURED_BY.get(one["type"], "")
        path = (one.get(name) or {}).get("path") or {} if name in ("requestRedirect", "urlRewrite") else {}
        if path.get("type") == "ReplacePrefixMatch":
            where = (*at, "filters", index, name, "path", "type")
            yield FieldError(where, "ReplacePrefixMatch needs exactly one match in its rule, of type PathPrefix")


_VALUE = Fields({"name": HEADER_NAME, "value": Text(least=1, most=4096, check=value_fault)}, ("name", "value"))
_MODIFIER = Fields(
    {
        "set": Items(_VALUE, most=16, unique=("name",)),
        "add": Items(_VALUE, most=16, unique=("name",)),
        "remove": Items(HEADER_NAME, most=16),
    },
    rules=(fields_may_be_changed,),
)
_PATH = Fields(
    {
        "type": Text(least=1),
        "replaceFullPath": Text(most=1024, check=whole_path_fault),
        "replacePrefixMatch": Text(most=1024, check=prefix_fault),
    },
    ("type",),
    rules=(path_is_given_by_type,),
)
_REDIRECT = Fields(
    {
        "scheme": Text(least=1),
        "hostname": _NAME,
        "port": PORT,
        "path": _PATH,
        "statusCode": Whole(),
    }
)
_MIRROR = Fields(
    {
        "backendRef": Fields(REFERENCE, ("name",), rules=(service_backend_has_port,)),
        "percent": Whole(0, 100),
        "fraction": Fields(
            {"numerator": Whole(0), "denominator": Whole(1)}, ("numerator",), rules=(fraction_is_at_most_one,)
        ),
    },
    ("backendRef",),
    rules=(mirror_has_one_share,),
)
_CORS = Fields(
    {
        "allowOrigins": Items(Text(least=1, most=253, check=origin_fault), most=64),
        "allowMethods": Items(Text(least=1), most=9),
        "allowHeaders": Items(HEADER_NAME, most=64),
        "exposeHeaders": Items(HEADER_NAME, most=64),
        "allowCredentials": Truth(),
        "maxAge": Whole(1, 2**31 - 1),
    },
    rules=(wildcards_stand_alone,),
)
_FILTER = Fields(
    {
        "type": Text(least=1),
        "requestHeaderModifier": _MODIFIER,
        "responseHeaderModifier": _MODIFIER,
        "requestRedirect": _REDIRECT,
        "urlRewrite": Fields({"hostname": _NAME, "path": _PATH}),
        "requestMirror": _MIRROR,
        "cors": _CORS,
        "extensionRef": Fields({"group": GROUP, "kind": KIND, "name": OBJECT_NAME}, ("group", "kind", "name")),
    },
    ("type",),
    open_ended=True,
    rules=(filter_is_what_its_type_says,),
)
FILTERS = Items(_FILTER, most=16, rules=(filters_go_together,))
