"""What becomes an Event, how often it is written, and how many there may be.

An Event is found again by its name, which is made of what it says: a second writer adds to the count of the first one's
Event instead of making another.  Events are a courtesy (conditions say the same, for as long as it is so), so there are
bounds on them like client-go's, and what is over a bound is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from nodeagent.status.pace import Bucket

COMPONENT = "nodeagent"
MAX_NOTE = 1024  # bytes, the API's
MAX_REASON = 128  # characters, the API's
KEPT = 1024  # Events and objects that are remembered
REPEAT = 300.0  # seconds between two writes of the same Event: what happens meanwhile is counted, not written
OBJECT_BURST, OBJECT_RATE = 10, 1 / 60  # Events of one object
BURST, RATE = 100, 5.0  # of this agent
WARNING, NORMAL = "Warning", "Normal"


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that a user should know of.  `note` begins with the field that is to blame, if there is one."""

    regarding: Regarding
    reason: str
    note: str
    type: str = WARNING

    @property
    def event_name(self) -> str:
        """Of the same occurrence always the same."""
        said = f"{self.regarding.uid} {self.type} {self.reason} {self.note}"
        digest = hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
        return f"{self.regarding.name[:230]}.{digest}"


@dataclass(slots=True)
class _Known:
    first: str
    count: int
    written: float


@dataclass(frozen=True, slots=True)
class Emission:
    """An Event to write: a new one, or one that is there already if `count` > 1 (or if another wrote it)."""

    occurrence: Occurrence
    count: int
    first: str
    last: str


class Occurrences:
    """`left_out`: how many Events were not written because of a bound."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._of_objects: OrderedDict[str, Bucket] = OrderedDict()
        self._all = Bucket(RATE, BURST)
        self.left_out = 0

    def emission(self, occurrence: Occurrence, now: float, wall: str) -> Emission | None:
        """What to write now; None = nothing."""
        name = occurrence.event_name
        known = self._known.get(name)
        if known is None:
            if not self._admit(occurrence, now):
                self.left_out += 1
                return None
            known = self._known[name] = _Known(wall, 0, now - REPEAT)
            _bound(self._known)
        self._known.move_to_end(name)
        known.count += 1
        if now - known.written < REPEAT:
            return None
        known.written = now
        return Emission(occurrence, known.count, known.first, wall)

    def _admit(self, occurrence: Occurrence, now: float) -> bool:
        key = occurrence.regarding.uid or f"{occurrence.regarding.kind} {occurrence.regarding.name}"
        bucket = self._of_objects.setdefault(key, Bucket(OBJECT_RATE, OBJECT_BURST))
        self._of_objects.move_to_end(key)
        _bound(self._of_objects)
        return bucket.take(now) and self._all.take(now)


def event_of(emission: Emission, instance: str) -> dict[str, Any]:
    """The Event to create.  `instance`: who says it, for example the node's name."""
    one = emission.occurrence
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": one.event_name, "namespace": namespace_of(one)},
        "involvedObject": {
            "apiVersion": one.regarding.api_version,
            "kind": one.regarding.kind,
            "namespace": one.regarding.namespace,
            "name": one.regarding.name,
            "uid": one.regarding.uid,
        },
        "type": one.type,
        "reason": one.reason[:MAX_REASON],
        "message": _cut(one.note),
        "source": {"component": COMPONENT, "host": instance},
        "reportingComponent": f"mesh.nodeagent.dev/{COMPONENT}",
        "reportingInstance": instance,
        "firstTimestamp": emission.first,
        "lastTimestamp": emission.last,
        "count": emission.count,
    }


def repeat_of(emission: Emission, count_there: int) -> dict[str, Any]:
    """A merge patch of an Event that is there, and was counted up to `count_there` by whoever wrote it."""
    return {"count": max(emission.count, count_there + 1), "lastTimestamp": emission.last}


def namespace_of(occurrence: Occurrence) -> str:
    """Events about what is in no namespace are in `default`, as the API server wants it."""
    return occurrence.regarding.namespace or "default"


def _bound(kept: OrderedDict[str, Any]) -> None:
    if len(kept) > KEPT:
        kept.popitem(last=False)


def _cut(note: str) -> str:
    data = note.encode()
    return note if len(data) <= MAX_NOTE else data[: MAX_NOTE - 3].decode(errors="ignore") + "..."
