"""A record -> the resource that compile reads, or what is wrong with it, as of a manifest.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.config.acceptance import unsupported
from nodeagent.config.objects import Broken
from nodeagent.config.problems import FieldError, Problem, field_text
from nodeagent.config.reading import NETNS_ANNOTATION, read_resource
from nodeagent.config.resources import Identity, Resource
from nodeagent.config.schema import violations
from nodeagent.kube.kinds import Kind
from nodeagent.kube.records import Record, Value, encode


@dataclass(frozen=True, slots=True)
class Item:
    """An object as it is now: exactly one of `resource` and `broken`.  `row` is what the disk keeps of it.

    `made`: its uid and generation.
    """

    identity: Identity
    row: bytes
    resource: Resource | None = None
    broken: Broken | None = None
    made: tuple[str, int] = ("", 0)


def judge(kind: Kind, record: Record, node: str) -> Item:
    """An API server whose CRD is older or newer than ours may accept what we cannot put in force."""
    identity, value = Identity(kind.name, record.namespace, record.name), record.value
    if kind.name == "Pod":
        _trim_pod(value, node)
    metadata = value["metadata"]
    made = (str(metadata.get("uid") or ""), int(metadata.get("generation") or 0))
    errors, reason = violations(kind.schema, value), "Invalid"
    if not errors:
        errors, reason = unsupported(kind.name, value), "UnsupportedValue"
    if errors:
        return Item(identity, encode(value), broken=_broken(identity, value, errors, reason), made=made)
    return Item(identity, encode(value), resource=read_resource(identity, value), made=made)


def _trim_pod(value: Value, node: str) -> None:
    """Of pods on other nodes what only their node needs is dropped.

    A network namespace is never taken from the API: whoever may create a pod could name another one than the pod's.
    """
    metadata = value["metadata"]
    (metadata.get("annotations") or {}).pop(NETNS_ANNOTATION, None)
    if (value.get("spec") or {}).get("nodeName") != node:
        metadata.pop("uid", None)


def _broken(identity: Identity, value: Value, errors: list[FieldError], reason: str) -> Broken:
    problems = tuple(Problem("", 0, field_text(error.path), error.message, str(identity)) for error in errors)
    return Broken(identity, "", 0, value, problems, reason, last_good=False)
