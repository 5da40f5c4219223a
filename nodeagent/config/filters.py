"""Filters of a validated HTTPRoute manifest as the values that `nodeagent.core.filters` applies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodeagent.config.problems import FieldPath
from nodeagent.config.resources import BackendRef, MirrorRef
from nodeagent.config.schemas.filters import CONFIGURED_BY
from nodeagent.core.cors import ANY, Cors, parse_origin
from nodeagent.core.filters import Filters, HeaderChange, PathChange, Redirect, Rewrite, header_change
from nodeagent.core.paths import normalize

Value = dict[str, Any]


def read_filters(listed: Iterable[Value], prefix: str = "") -> Filters:
    """`prefix` is the path of the rule's one match, which is all that ReplacePrefixMatch can replace."""
    given = {one["type"]: one[CONFIGURED_BY[one["type"]]] for one in listed}
    return Filters(
        request=_change(given.get("RequestHeaderModifier")),
        response=_change(given.get("ResponseHeaderModifier")),
        redirect=_redirect(given.get("RequestRedirect"), prefix),
        rewrite=_rewrite(given.get("URLRewrite"), prefix),
    )


def read_mirrors(listed: Iterable[Value], at: FieldPath, namespace: str) -> tuple[MirrorRef, ...]:
    """`at` is where in the rule the owner of the filters is, `namespace` the route's."""
    return tuple(
        _mirror(one["requestMirror"], (*at, "filters", index, "requestMirror", "backendRef"), namespace)
        for index, one in enumerate(listed)
        if one["type"] == "RequestMirror"
    )


def read_cors(listed: Iterable[Value]) -> Cors | None:
    value = next((one["cors"] for one in listed if one["type"] == "CORS"), None)
    if value is None:
        return None
    origins = value.get("allowOrigins") or ()
    return Cors(
        origins=tuple(origin for text in origins if (origin := parse_origin(text)) is not None),
        any_origin=ANY in origins,
        methods=tuple(value.get("allowMethods") or ()),
        headers=tuple(value.get("allowHeaders") or ()),
        exposed=tuple(value.get("exposeHeaders") or ()),
        credentials=bool(value.get("allowCredentials")),
        max_age=value.get("maxAge") or 5,
    )


def _mirror(value: Value, at: FieldPath, namespace: str) -> MirrorRef:
    numerator, denominator = 100, 100
    if value.get("percent") is not None:
        numerator = value["percent"]
    elif value.get("fraction") is not None:
        numerator, denominator = value["fraction"]["numerator"], value["fraction"].get("denominator") or 100
    return MirrorRef(read_reference(value["backendRef"], namespace), at, numerator, denominator)


def read_reference(ref: Value, namespace: str) -> BackendRef:
    """Of whatever else a backendRef has, nothing; `namespace` is the route's."""
    return BackendRef(
        group=ref.get("group") or "",
        kind=ref.get("kind") or "Service",
        namespace=ref.get("namespace") or namespace,
        name=ref["name"],
        port=ref.get("port") or 0,
        weight=1,
    )


def _change(modifier: Value | None) -> HeaderChange | None:
    """None when there is nothing to change: such messages take the usual way."""
    if not modifier or not any(modifier.values()):
        return None
    return header_change(_pairs(modifier, "set"), _pairs(modifier, "add"), modifier.get("remove") or ())


def _pairs(modifier: Value, kind: str) -> list[tuple[str, str]]:
    """Of names that differ in case only, the first counts (Gateway API)."""
    found: dict[str, tuple[str, str]] = {}
    for item in modifier.get(kind) or []:
        found.setdefault(item["name"].lower(), (item["name"], item["value"]))
    return list(found.values())


def _redirect(value: Value | None, prefix: str) -> Redirect | None:
    if value is None:
        return None
    return Redirect(
        status=value.get("statusCode") or 302,
        scheme=value.get("scheme") or "",
        hostname=value.get("hostname") or "",
        port=value.get("port") or 0,
        path=_path(value.get("path"), prefix),
    )


def _rewrite(value: Value | None, prefix: str) -> Rewrite | None:
    if not value or not any(value.values()):
        return None
    return Rewrite(value.get("hostname") or "", _path(value.get("path"), prefix))


def _path(value: Value | None, prefix: str) -> PathChange | None:
    if value is None:
        return None
    if value["type"] == "ReplaceFullPath":
        return PathChange(normalize(value["replaceFullPath"]))
    replacement = value["replacePrefixMatch"]
    return PathChange(normalize(replacement) if replacement else "", prefix)
