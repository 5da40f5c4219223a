"""Bytes of the API server -> what we read of each object.  The one importer of msgspec.

A pod is 5 to 10 KB of JSON, of which we read 300 bytes.  For kinds of Kubernetes the types to decode are made from
their schemas (nodeagent.config.schemas.core): what a schema does not name is skipped without becoming an object.
Kinds of a CRD keep their whole spec, because a field that we do not know is a fault to tell; never their status.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from nodeagent.config.schema import Anything, Fields, Items, Number, Schema, Table, Text, Truth, Whole, WholeOrText
from nodeagent.config.schemas.common import METADATA_FIELDS
from nodeagent.kube.api import Failure, Reason, failure_of
from nodeagent.kube.kinds import KINDS, Kind

Value = dict[str, Any]

READ_METADATA = ("name", "namespace", "labels", "annotations", "creationTimestamp", "generation", "uid")
OWNERS = "ownerReferences"
OUR_PREFIX = "mesh.nodeagent.dev/"
READ_LABELS = frozenset(
    {
        "kubernetes.io/service-name",
        "pod-template-hash",
        "service.kubernetes.io/service-proxy-name",
        "topology.kubernetes.io/zone",
    }
)


class RecordError(ValueError):
    """What the API server sent is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """An object.  `value` has apiVersion, kind, and of the rest what is read."""

    namespace: str
    name: str
    version: str
    value: Value


@dataclass(frozen=True, slots=True)
class Page:
    version: str
    token: str
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Event:
    """Of a watch.  `record` None = a bookmark."""

    version: str
    record: Record | None = None
    deleted: bool = False


class _PageMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    token: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _PageMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    metadata: _PageMetadata


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: int = 0


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""
    reason: str = ""
    details: _Details | None = None


_PLAIN: dict[type[Schema], Any] = {
    Text: str | None,
    Whole: int | None,
    Number: int | float | None,
    Truth: bool | None,
    WholeOrText: int | str | None,
    Anything: Any,
}


def _type_of(schema: Schema, name: str) -> Any:
    """A type that decodes what the schema names; anything may be null."""
    match schema:
        case Items(of=item):
            return list[_type_of(item, name)] | None  # type: ignore[misc]  # types are made from data here
        case Table(of=item):
            return dict[str, _type_of(item, name)] | None  # type: ignore[misc]  # as above
        case Fields(fields=fields):
            return _struct(name, fields.items()) | None
        case _:
            return _PLAIN[type(schema)]


def _struct(name: str, fields: Iterable[tuple[str, Schema]]) -> Any:
    typed = [(field, _type_of(schema, f"{name}_{field}"), None) for field, schema in fields]
    return msgspec.defstruct(name, typed, omit_defaults=True, gc=False)


def _metadata_type() -> Any:
    """Of METADATA_FIELDS what is read, and the version, which is taken out again."""
    named = [(name, METADATA_FIELDS[name]) for name in (*READ_METADATA, OWNERS, "resourceVersion")]
    return _struct("Metadata", named)


_METADATA = _metadata_type()


def _decoder(kind: Kind) -> msgspec.json.Decoder[Any]:
    schema = kind.schema
    assert isinstance(schema, Fields)  # noqa: S101  (every kind's is)
    rest = {name: one for name, one in schema.fields.items() if name not in ("apiVersion", "kind", "metadata")}
    if kind.custom:
        rest = {"spec": Anything()}
    fields = [(name, _type_of(one, f"{kind.name}_{name}"), None) for name, one in rest.items()]
    whole = msgspec.defstruct(kind.name, [("metadata", _METADATA), *fields], omit_defaults=True, gc=False)
    return msgspec.json.Decoder(whole)


_DECODERS = {kind.name: _decoder(kind) for kind in KINDS}
_PAGES, _EVENTS = msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Event)
_STATUS, _VERSIONED = msgspec.json.Decoder(_Status), msgspec.json.Decoder(_Versioned)
_ANY = msgspec.json.Decoder()


def read_page(kind: Kind, body: bytes) -> Page:
    """Raises RecordError."""
    try:
        page = _PAGES.decode(body)
        records = [_record(kind, raw) for raw in page.items or ()]
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"its list of {kind.plural} cannot be read: {error}") from error
    if not page.metadata.resource_version and not page.metadata.token:
        raise RecordError(f"its list of {kind.plural} has no metadata.resourceVersion to watch from")
    return Page(page.metadata.resource_version, page.metadata.token, records)


def read_event(kind: Kind, line: bytes) -> Event | Failure:
    """Raises RecordError.  A Failure is an ERROR event: the watch is over."""
    try:
        event = _EVENTS.decode(line)
        if event.type == "BOOKMARK":
            return Event(_VERSIONED.decode(event.object).metadata.resource_version)
        if event.type == "ERROR":
            return read_status(event.object)
        record = _record(kind, event.object)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"an event of its watch of {kind.plural} cannot be read: {error}") from error
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        raise RecordError(f"its watch of {kind.plural} has an event of unknown type {event.type!r}")
    return Event(record.version, record, deleted=event.type == "DELETED")


def read_status(body: bytes | msgspec.Raw) -> Failure:
    """A Status object: of an ERROR event, or the body of an answer that is not 200."""
    status = _STATUS.decode(body)
    message = status.message or status.reason or "no reason given"
    if not status.code:
        return Failure(Reason.UNINTELLIGIBLE, message)
    return failure_of(status.code, message, status.details.retry_after_seconds if status.details else 0)


def status_message(body: bytes) -> str:
    """The message of a Status, or what there is instead, in one line."""
    try:
        return read_status(body).message
    except msgspec.MsgspecError:
        return " ".join(body[:200].decode(errors="replace").split())


def encode(value: Value) -> bytes:
    """For the last good state on disk."""
    return msgspec.json.encode(value)


def parse(data: bytes) -> Any:
    """Any JSON.  Raises RecordError."""
    try:
        return _ANY.decode(data)
    except msgspec.MsgspecError as error:
        raise RecordError(str(error)) from error


def decode(data: bytes) -> Value:
    """Raises RecordError."""
    value = parse(data)
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise RecordError("not an object with metadata")
    return value


def _record(kind: Kind, raw: msgspec.Raw) -> Record:
    try:
        found: Value = msgspec.to_builtins(_DECODERS[kind.name].decode(raw))
    except msgspec.ValidationError:  # not of the types that the schema says: judging tells which
        found = _untyped(kind, raw)
    metadata = found["metadata"]
    version = metadata.pop("resourceVersion", None) or ""
    for name in ("labels", "annotations"):
        if name in metadata:
            _keep_what_is_read(metadata, name)
    value = {"apiVersion": kind.version, "kind": kind.name, **found}
    return Record(metadata.get("namespace") or "", metadata["name"], version, value)


def _untyped(kind: Kind, raw: msgspec.Raw) -> Value:
    found = _ANY.decode(raw)
    metadata = {name: one for name, one in found["metadata"].items() if name not in ("managedFields", "selfLink")}
    rest = ("spec",) if kind.custom else kind.schema.fields if isinstance(kind.schema, Fields) else ()
    return {**{name: found[name] for name in rest if name in found}, "metadata": metadata}


def _keep_what_is_read(metadata: Value, name: str) -> None:
    given = metadata[name]
    kept = {key: text for key, text in given.items() if key in READ_LABELS or key.startswith(OUR_PREFIX)}
    if kept:
        metadata[name] = kept
    else:
        del metadata[name]
