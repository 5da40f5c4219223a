"""What the writer knows of the objects, as the API server has them, and of the nodes; and what there is to write.

Two streams come together here: objects with their status, as the API server sends them, and the conditions of the
snapshots that this node's agent compiles from the same objects.  Conditions speak of an object only if they were made
after its present generation was seen, which the digest of what they were made from tells (see `digests`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodeagent.config.conditions import Condition, Conditions
from nodeagent.core.differences import changed, gone
from nodeagent.status.acknowledgements import Acknowledgements, Report, counts
from nodeagent.status.digests import Digest
from nodeagent.status.entries import (
    SHAPES,
    Entry,
    Subject,
    Value,
    entries,
    subject_of,
    to_be_programmed,
    with_programmed,
)
from nodeagent.status.occurrences import Occurrence, Regarding
from nodeagent.status.plan import already_programmed, news, patch, planned

GRACE = 1.5  # seconds in which all nodes of most clusters confirm: then it is written once, and not as Pending before

Key = tuple[str, str]  # kind, "namespace/name"
_Said = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One write.  `content` is equal for two that say the same; `occurrences` are to be told once it is done."""

    subject: Subject
    patch: dict[str, Any]
    content: tuple[Entry, ...]
    occurrences: tuple[Occurrence, ...]


@dataclass(slots=True)
class _Known:
    """`number`: of the point in its kind's history since which this generation is there."""

    subject: Subject
    api_version: str
    version: str
    written: str  # its status as JSON, of thousands of which few are looked at: a fifth of the memory of dicts
    number: int

    @property
    def status(self) -> Value:
        value: Value = json.loads(self.written)
        return value


class Book:
    """Of one term of office: a writer that is elected again begins a new one."""

    def __init__(self, acknowledgements: Acknowledgements | None = None, grace: float = GRACE) -> None:
        self.acknowledgements = acknowledgements or Acknowledgements()
        self._grace = grace
        self._held: dict[Key, float] = {}  # until when it is not said that nodes have yet to confirm it
        self._objects: dict[Key, _Known] = {}
        self._digests = {kind: Digest() for kind in SHAPES}
        self._said: Mapping[Key, _Said] = {}
        self._made_from: dict[str, str] = {}  # kind -> digest of what the conditions speak of
        self._reports: dict[str, dict[str, str]] = {}  # node -> kind -> digest
        self._own = ""  # node
        self._ready: Mapping[str, bool] | None = None
        self._expected: frozenset[str] = frozenset()
        self._heard = True  # the acknowledgements know the reports and nodes as they are now
        self._dirty: dict[Key, None] = {}
        self._writing: dict[Key, Plan] = {}

    # ---- what comes in ----

    def see(self, value: Value) -> bool:
        """An object: of a list, of an event, or the answer to a write of ours.  They may overtake one another.

        True = there may be something to write.
        """
        subject, version = subject_of(value), str(value["metadata"].get("resourceVersion") or "")
        key, known = subject.key, self._objects.get(subject.key)
        if known is not None and (version == known.version or _is_older(version, known.version)):
            return False
        if known is None or (known.subject.uid, known.subject.generation) != (subject.uid, subject.generation):
            digest = self._digests[subject.kind]
            digest.put(key[1], subject.uid, subject.generation)
            number = self.acknowledgements.history(subject.kind).note(digest.text)
        else:
            number = known.number
        status = value.get("status") or {}
        self._objects[key] = _Known(subject, str(value["apiVersion"]), version, json.dumps(status), number)
        if self._is_as_written(subject, status):
            return False
        self._dirty[key] = None
        return True

    def _is_as_written(self, subject: Subject, status: Value) -> bool:
        """It is what a write of ours makes of it, whether its answer comes first or its event."""
        plan = self._writing.get(subject.key)
        if plan is None or (plan.subject.uid, plan.subject.generation) != (subject.uid, subject.generation):
            return False
        return all(status.get(name, []) == value for name, value in plan.patch["status"].items())

    def gone(self, kind: str, name: str) -> None:
        """`name` is "namespace/name"."""
        if self._objects.pop((kind, name), None) is None:
            return
        digest = self._digests[kind]
        digest.drop(name)
        self.acknowledgements.history(kind).note(digest.text)
        self.acknowledgements.forget((kind, name))
        self._held.pop((kind, name), None)
        self._writing.pop((kind, name), None)
        self._dirty.pop((kind, name), None)

    def listed(self, kind: str, names: Iterable[str]) -> None:
        """There are no others of this kind."""
        for one, name in self._objects.keys() - {(kind, name) for name in names}:
            if one == kind:
                self.gone(kind, name)

    def compiled(self, conditions: Conditions, made_from: Mapping[str, str]) -> None:
        """The conditions of a snapshot, and kind -> digest of the objects that it was made from."""
        now = conditions.by_object
        for key in changed(self._said, now).keys() | gone(self._said, now):
            if key[0] in SHAPES and not _same(now.get(key, ()), self._said.get(key, ())):
                self._dirty[key] = None
        self._said, self._made_from = now, dict(made_from)

    def report(self, node: str, digests: Mapping[str, str] | None) -> None:
        """What another node has in force; None = it does not report any more."""
        if node != self._own:
            self._enforced(node, digests)

    def enforced_here(self, node: str, digests: Mapping[str, str]) -> bool:
        """What our own node has, which its MeshNode says later.  True = there may be something to write."""
        self._own = node
        self._enforced(node, digests)
        return not self._heard

    def _enforced(self, node: str, digests: Mapping[str, str] | None) -> None:
        if self._reports.get(node) == digests:
            return
        if digests is None:
            self._reports.pop(node, None)
        else:
            self._reports[node] = dict(digests)
        self._heard = False

    def reporting(self, nodes: Iterable[str]) -> None:
        """No others do."""
        for node in self._reports.keys() - set(nodes):
            self.report(node, None)

    def nodes(self, ready: Mapping[str, bool] | None, expected: Iterable[str] = ()) -> None:
        """Every Node and whether it is Ready (None = not known); those where an agent is, so that they will report."""
        now = ready, frozenset(expected)
        if now != (self._ready, self._expected):
            self._ready, self._expected = now
            self._heard = False

    def look_again(self, now: float) -> None:
        """What is to be said about objects that nodes have yet to confirm may be another thing by now."""
        self._hear()
        self._dirty |= dict.fromkeys(self.acknowledgements.moved(now))
        self._dirty |= {key: None for key, until in self._held.items() if until <= now}

    # ---- what goes out ----

    @property
    def waiting(self) -> int:
        """Objects whose status is to be written, or to be looked at."""
        return len(self._dirty.keys() | self._held.keys() | self._writing.keys())

    def dirty(self) -> list[Key]:
        """What `plan` may have something for."""
        return list(self._dirty)

    def plan(self, key: Key, now: float, wall: str) -> Plan | None:
        """None = nothing to write, or not yet.  Whether it was written is to be said to `tried`."""
        known = self._objects.get(key)
        if known is not None and not self._is_compiled(key[0], known):
            return None
        self._dirty.pop(key, None)
        if known is None:
            return None
        subject, status = known.subject, known.status
        made = self._wanted(known, status, now)
        fields = planned(subject.shape, status, made, subject.generation, wall)
        if fields is None:
            self._held.pop(key, None)
            return None
        told = tuple(_occurrences(known, status, made))
        if not told and self._is_early(key, now):
            return None
        self._writing[key] = plan = Plan(subject, patch(known.version, fields), made, told)
        return plan

    def tried(self, plan: Plan, answer: Value | None) -> bool:
        """`answer`: the object as it is now; None = it was not written, and has to be looked at again.

        True = there may be something to write.  Of an object that went meanwhile the answer comes too late.
        """
        key = plan.subject.key
        if self._writing.get(key) is not plan:
            return False
        if answer is None:
            self._dirty[key] = None
        else:
            self._held.pop(key, None)
            self.see(answer)
        del self._writing[key]
        return key in self._dirty

    def due(self, now: float) -> float | None:
        """Seconds until there may be something to write although nothing comes in; None = never."""
        held = [until - now for until in self._held.values() if until > now]
        acknowledged = self.acknowledgements.due(now)
        return min([*held, *([] if acknowledged is None else [acknowledged])], default=None)

    def _is_early(self, key: Key, now: float) -> bool:
        """Nodes have yet to confirm it, which they may do in a moment: `look_again` tells when to plan again.

        An object that changes all the time is held no longer than one that does not.
        """
        return self.acknowledgements.is_open(key) and now < self._held.setdefault(key, now + self._grace)

    def _is_compiled(self, kind: str, known: _Known) -> bool:
        at = self.acknowledgements.history(kind).number(self._made_from.get(kind, ""))
        return at is not None and at >= known.number

    def _wanted(self, known: _Known, status: Value, now: float) -> tuple[Entry, ...]:
        subject, key = known.subject, known.subject.key
        made = entries(subject, self._said.get(key, ()))
        numbers = to_be_programmed(made)
        if not numbers:
            self.acknowledgements.forget(key)
            return made
        over = already_programmed(subject.shape, status, [made[number] for number in numbers], subject.generation)
        self.acknowledgements.expect(key, (subject.uid, subject.generation, numbers), known.number, now, over=over)
        self._hear()
        return with_programmed(made, self.acknowledgements.judge(key, now))

    def _hear(self) -> None:
        if not self._heard:
            self.acknowledgements.heard(self._all_reports())
            self._heard = True

    def _all_reports(self) -> Iterator[Report]:
        for node in self._reports.keys() | self._expected:
            yield Report(node, self._reports.get(node, {}), counts(node, self._ready))


def _same(now: _Said, before: _Said) -> bool:
    """They say the same, of whichever snapshot."""
    return [one.words for one in now] == [one.words for one in before]


def _is_older(version: str, known: str) -> bool:
    """Versions can be compared since Kubernetes 1.35, and could be before.  Others are taken as they come."""
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)


def _occurrences(known: _Known, status: Value, made: tuple[Entry, ...]) -> Iterator[Occurrence]:
    subject = known.subject
    regarding = Regarding(known.api_version, subject.kind, subject.namespace, subject.name, subject.uid)
    for entry, one in news(subject.shape, status, made):
        towards = f"{entry.reference.get('kind')} {entry.reference.get('name')}"
        yield Occurrence(regarding, one.reason, f"{one.message} ({towards})")
