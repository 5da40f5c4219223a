"""What an object's status should say towards each of its parents or targets, from the conditions of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nodeagent.config.conditions import (
    ACCEPTED,
    FALSE,
    PARTIALLY_INVALID,
    PROGRAMMED,
    RESOLVED_REFS,
    TRUE,
    UNKNOWN,
    Condition,
)

CONTROLLER = "mesh.nodeagent.dev/controller"
MAX_MESSAGE = 4096  # characters; the API takes 32,768, times 8 conditions, times 32 parents
_WORSE = {FALSE: 0, UNKNOWN: 1, TRUE: 2}  # of PartiallyInvalid, which is no policy's, it would be the other way
_ORDER = (ACCEPTED, PARTIALLY_INVALID, RESOLVED_REFS, PROGRAMMED)

Value = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """The names that Gateway API has for a kind's entries: spec.`references`, status.`entries`[].`reference`.

    `summed_up`: status.conditions tell the worst of all entries, as it is for kinds that are ours alone.
    """

    references: str
    entries: str
    reference: str
    most: int  # entries, of all controllers
    summed_up: bool


ROUTE = Shape("parentRefs", "parents", "parentRef", 32, summed_up=False)
POLICY = Shape("targetRefs", "ancestors", "ancestorRef", 16, summed_up=True)
SHAPES = {"HTTPRoute": ROUTE, "AuthorizationPolicy": POLICY, "TrafficPolicy": POLICY, "RateLimitPolicy": POLICY}


@dataclass(frozen=True, slots=True)
class Subject:
    """An object with a status, as it was when its conditions were made.  `references` are as its spec has them."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    references: tuple[Value, ...]

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, f"{self.namespace}/{self.name}")

    @property
    def shape(self) -> Shape:
        return SHAPES[self.kind]


@dataclass(frozen=True, slots=True)
class Stated:
    """A condition without its time."""

    type: str
    status: str
    reason: str
    message: str = ""

    @property
    def is_bad(self) -> bool:
        """Somebody has to do something about it."""
        return self.status == (TRUE if self.type == PARTIALLY_INVALID else FALSE)


@dataclass(frozen=True, slots=True)
class Entry:
    """Towards one parent or target."""

    reference: Value
    conditions: tuple[Stated, ...]


def subject_of(value: Value) -> Subject:
    """Of an object as the API server has it."""
    metadata, spec, kind = value["metadata"], value.get("spec") or {}, str(value["kind"])
    given = spec.get(SHAPES[kind].references) or []
    references = tuple(one for one in given if isinstance(one, Mapping)) if isinstance(given, list) else ()
    namespace, uid = str(metadata.get("namespace") or ""), str(metadata.get("uid") or "")
    return Subject(kind, namespace, str(metadata["name"]), uid, int(metadata.get("generation") or 0), references)


def entries(subject: Subject, said: Iterable[Condition]) -> tuple[Entry, ...]:
    """In the order of the references; none for one that is no business of ours.

    A condition of the object as a whole (what is written now cannot be used) stands for all others, which speak of
    the state that was good last.
    """
    by_ref: dict[int, list[Condition]] = {}
    for one in said:
        by_ref.setdefault(one.ref, []).append(one)
    whole = by_ref.pop(-1, [])
    made = []
    for index, reference in enumerate(subject.references):
        found = whole or by_ref.get(index, [])
        if found and _is_ours(subject.kind, reference):
            made.append(Entry(_written(subject, reference), _stated(found)))
    return tuple(made)


def with_programmed(made: tuple[Entry, ...], programmed: Stated) -> tuple[Entry, ...]:
    """The same, with what is known about the nodes."""
    return tuple(
        replace(
            entry, conditions=tuple(programmed if one.type == PROGRAMMED else one for one in entry.conditions)
        )
        for entry in made
    )


def summary(made: tuple[Entry, ...]) -> tuple[Stated, ...]:
    """The worst of each type, with the target that it is about, if there are several."""
    found: dict[str, tuple[Stated, Entry]] = {}
    for entry in made:
        for one in entry.conditions:
            if one.type not in found or _WORSE[one.status] < _WORSE[found[one.type][0].status]:
                found[one.type] = one, entry
    return tuple(_about(*found[name], several=len(made) > 1) for name in _ORDER if name in found)


def to_be_programmed(made: tuple[Entry, ...]) -> tuple[int, ...]:
    """The positions of the entries whose object is to be put in force by nodes."""
    return tuple(
        number for number, entry in enumerate(made) if any(one.type == PROGRAMMED for one in entry.conditions)
    )


def _about(stated: Stated, entry: Entry, *, several: bool) -> Stated:
    if not several or not stated.message:
        return stated
    return replace(stated, message=f"{entry.reference.get('kind')} {entry.reference.get('name')}: {stated.message}")


def _is_ours(kind: str, reference: Value) -> bool:
    """Of a route's parents we manage Services; a Gateway's status is its controller's to write."""
    return SHAPES[kind] is not ROUTE or (reference.get("group") in ("", "core") and reference.get("kind") == "Service")


def _written(subject: Subject, reference: Value) -> Value:
    """As the spec has it.  A target is in its policy's namespace, which a ParentReference can say."""
    if subject.shape is ROUTE or reference.get("kind") == "Namespace":
        return dict(reference)
    return {**reference, "namespace": subject.namespace}


def _stated(said: list[Condition]) -> tuple[Stated, ...]:
    """One of a type, in the order of the field's books; of two the worse."""
    found: dict[str, Stated] = {}
    for one in said:
        stated = Stated(one.type, one.status, one.reason, _message(one))
        known = found.get(one.type)
        if known is None or (stated.is_bad and not known.is_bad):
            found[one.type] = stated
    return tuple(found[name] for name in _ORDER if name in found)


def _message(condition: Condition) -> str:
    """With the field that is to blame.  A note of what is accepted tells no fault, so it has none."""
    blamed = condition.field and (condition.status == FALSE or condition.type == PARTIALLY_INVALID)
    text = f"{condition.field}: {condition.message}" if blamed else condition.message
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."
