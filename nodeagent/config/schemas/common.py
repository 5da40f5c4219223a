"""Pieces that several kinds share: names, metadata, ports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Anything, Fields, Items, Schema, Table, Text, Truth, Whole
from nodeagent.core.addresses import canonical

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL = Text(pattern=_LABEL, shape="a DNS label (lower case, digits, dashes)", least=1, most=63)
SUBDOMAIN = Text(pattern=rf"{_LABEL}(\.{_LABEL})*", shape="a DNS name in lower case", least=1, most=253)
OBJECT_NAME = Text(least=1, most=253)
# Gateway API's Group may be "" (the core group)
GROUP = Text(pattern=rf"|{_LABEL}(\.{_LABEL})*", shape="an API group in lower case", most=253)
KIND = Text(pattern=r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?", shape="a kind", least=1, most=63)
PORT = Whole(1, 65535)
REFERENCE: dict[str, Schema] = {"group": GROUP, "kind": KIND, "name": OBJECT_NAME, "namespace": LABEL, "port": PORT}
"""A parent or a backend."""
HEADER_NAME = Text(pattern=r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+", shape="a header name", least=1, most=256)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


def address_fault(text: str) -> str:
    """What is wrong with an IP address in text, or ""."""
    try:
        canonical(text)
    except ValueError as error:
        return f"is not an IP address: {error}"
    return ""


ADDRESS = Text(check=address_fault)


def service_backend_has_port(backend: dict[str, Any]) -> Iterator[FieldError]:
    if not backend.get("group") and backend.get("kind", "Service") == "Service" and not backend.get("port"):
        yield FieldError(("port",), "required value is missing: a backendRef to a Service needs a port")


def time_fault(text: str) -> str:
    """What is wrong with an RFC 3339 time, or ""."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text):
            datetime.fromisoformat(text).astimezone(UTC)
            return ""
    except (ValueError, OverflowError):  # the shape is right, the date is not, or not in UTC
        pass
    return f"{text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z"


def annotations_have_room(annotations: dict[str, str]) -> Iterator[FieldError]:
    size = sum(len(key.encode()) + len(value.encode(errors="surrogatepass")) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        yield FieldError((), f"names and values have {size} bytes; at most {MAX_ANNOTATIONS} are allowed")


MAX_ANNOTATIONS = 256 * 1024
_QUALIFIED = Text(
    pattern=rf"((?=[^/]{{1,253}}/){_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?",
    shape="a name of at most 63 letters, digits, dashes, dots and underscores, or one after a domain and a slash",
)
_ANNOTATION = Text(  # here the domain may be in upper case
    pattern=_QUALIFIED.pattern.replace("[a-z0-9]", "[A-Za-z0-9]").replace("[-a-z0-9]", "[-A-Za-z0-9]"),
    shape=_QUALIFIED.shape,
)
_LABEL_VALUE = Text(
    pattern=r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
    shape="empty, or letters and digits with dashes, dots and underscores between",
    most=63,
)
_OWNER = ("apiVersion", "kind", "name", "uid")
_METADATA_FIELDS: dict[str, Schema] = {
    "name": SUBDOMAIN,
    "namespace": LABEL,
    "labels": Table(_LABEL_VALUE, keys=_QUALIFIED),
    "annotations": Table(Text(), keys=_ANNOTATION, rules=(annotations_have_room,)),
    "creationTimestamp": Text(check=time_fault),
    "generation": Whole(0),
    "ownerReferences": Items(
        Fields(
            {
                **dict.fromkeys(_OWNER, Text(least=1)),
                "controller": Truth(),
                "blockOwnerDeletion": Truth(),
            },
            _OWNER,
        )
    ),
    "uid": Text(),
    "resourceVersion": Text(),
    "generateName": Text(),
    "selfLink": Text(),
    "finalizers": Items(Text()),
    "managedFields": Items(Anything()),
    "deletionTimestamp": Text(check=time_fault),
    "deletionGracePeriodSeconds": Whole(),
}
METADATA = Fields(_METADATA_FIELDS, ("name",))


def top_level(spec: dict[str, Schema], required: tuple[str, ...] = (), *, open_ended: bool = False) -> Fields:
    """An object with apiVersion, kind, metadata and `spec` fields (spec, status, ...)."""
    fields: dict[str, Schema] = {"apiVersion": Text(), "kind": Text(), "metadata": METADATA, **spec}
    return Fields(fields, ("apiVersion", "kind", "metadata", *required), open_ended=open_ended)


REFUSED_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")
DOT_SEGMENTS = ("/..", "/.")
PATH_TEXT = r"[-A-Za-z0-9/._~!$&\x27()*+,;=:@]|%[0-9A-Fa-f]{2}"  # \x27: the quote that CEL's literals end with
_PATH = re.compile(f"({PATH_TEXT})*")


def path_fault(value: str) -> str:
    """What keeps a plain path from ever matching a request, or ""."""
    if not value.startswith("/"):
        return "must start with a slash"
    for part in REFUSED_IN_PATHS:
        if part in value:
            return f"must not contain {part!r}"
    if value.endswith(DOT_SEGMENTS):
        return "must not end with a dot segment"
    if not _PATH.fullmatch(value):
        return "must only contain characters of a URI path, and no broken percent escape"
    return ""
