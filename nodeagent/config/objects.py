"""All objects in force: what the files say now, with the last good state where they say something broken.

Pure.  `merge` is the whole rule of what a file change means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nodeagent.config.manifest_files import Entry, ManifestFile
from nodeagent.config.problems import Problem
from nodeagent.config.resources import (
    Identity,
    NamespaceObject,
    NodeObject,
    PodObject,
    PolicyObject,
    RateLimitObject,
    Resource,
    RouteObject,
    ServiceObject,
    SliceObject,
    TrafficObject,
)

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A good object: its resource, its manifest, and where that came from."""

    identity: Identity
    resource: Resource
    value: Value
    file: str
    document: int


@dataclass(frozen=True, slots=True)
class Broken:
    """An object whose present manifest is not usable; `last_good` says whether an earlier one stays in force."""

    identity: Identity
    file: str
    document: int
    value: Value
    problems: tuple[Problem, ...]
    reason: str
    last_good: bool


class Contents(NamedTuple):
    """Which objects there are of a kind: how many, and a digest of their uids and generations."""

    objects: int
    digest: str


Good = Mapping[str, Mapping[Identity, Stored]]  # file name -> objects


@dataclass(frozen=True)
class ObjectSet:
    """Every object in force, by kind and key ("namespace/name", or the name of a Namespace or Node)."""

    namespaces: Mapping[str, NamespaceObject] = field(default_factory=dict)
    pods: Mapping[str, PodObject] = field(default_factory=dict)
    services: Mapping[str, ServiceObject] = field(default_factory=dict)
    slices: Mapping[str, SliceObject] = field(default_factory=dict)
    routes: Mapping[str, RouteObject] = field(default_factory=dict)
    policies: Mapping[str, PolicyObject] = field(default_factory=dict)
    traffic: Mapping[str, TrafficObject] = field(default_factory=dict)
    rate_limits: Mapping[str, RateLimitObject] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    problems: tuple[Problem, ...] = ()
    stored: tuple[Stored, ...] = ()
    nodes: Mapping[str, NodeObject] = field(default_factory=dict)
    contents: Mapping[str, Contents] = field(default_factory=dict)  # of kinds with a status, if the source tells


def merge(files: Iterable[ManifestFile], before: Good) -> tuple[Good, ObjectSet]:
    """Apply the files (all of them) to the last good state.

    - A good object replaces its last good state; a broken one leaves it, wherever it was defined.
    - An object missing from a file that could be read whole is deleted; from one that could not, it stays.
    - Of two definitions of one object, the first by file name and document counts; the other is a problem.
    """
    return _Merge(before).run(sorted(files, key=lambda file: file.name))


@dataclass(frozen=True, slots=True)
class _Whole:
    """All objects of a file in which nothing is wrong; `tables` are their resources by kind and key."""

    objects: dict[Identity, Stored]
    tables: dict[str, dict[str, Any]]


def _whole(file: ManifestFile) -> _Whole | None:
    """None when something is wrong in the file, or defined twice.  Files of a big configuration are asked again."""
    if isinstance(file.memo, _Whole):
        return file.memo
    objects = {
        entry.identity: Stored(entry.identity, entry.resource, entry.value, file.name, entry.document)
        for entry in file.entries
        if entry.resource is not None
    }
    if file.incomplete or len(objects) != len(file.entries):
        return None
    file.memo = made = _Whole(objects, _by_kind(objects.values()))
    return made


def _by_kind(stored: Iterable[Stored]) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    for item in stored:
        tables.setdefault(item.identity.kind, {})[item.identity.key] = item.resource
    return tables


class _Place(NamedTuple):
    """Where an object is defined that may not be usable."""

    file: str
    document: int


class _Merge:
    def __init__(self, before: Good) -> None:
        self._before = before
        self._last: dict[Identity, Stored] | None = None
        self._claims: dict[Identity, Stored | _Place] = {}
        self._good: dict[str, dict[Identity, Stored]] = {}
        self._tables: dict[str, dict[str, dict[str, Any]]] = {}  # of whole files, by file name
        self._broken: list[Broken] = []
        self._problems: list[Problem] = []

    def run(self, files: list[ManifestFile]) -> tuple[Good, ObjectSet]:
        for file in files:
            self._problems += file.problems
            if not self._at_once(file):
                self._good[file.name] = {}
                for entry in file.entries:
                    self._entry(file, entry)
        for file in files:
            if file.incomplete:
                self._keep(file)
        return self._good, self._object_set()

    def _at_once(self, file: ManifestFile) -> bool:
        """True when all objects of the file are taken: nothing is wrong in it, and no earlier file has one of them."""
        whole = _whole(file)
        if whole is None or not self._claims.keys().isdisjoint(whole.objects):
            return False
        self._claims.update(whole.objects)
        self._good[file.name] = whole.objects
        self._tables[file.name] = whole.tables
        return True

    def _entry(self, file: ManifestFile, entry: Entry) -> None:
        if entry.identity in self._claims:
            self._problems.append(self._duplicate(file, entry))
            return
        self._claims[entry.identity] = _Place(file.name, entry.document)
        stored = self._stored(file, entry)
        if stored is not None:
            self._good[file.name][entry.identity] = stored
        if entry.problems:
            self._problems += entry.problems
            self._broken.append(
                Broken(
                    entry.identity,
                    file.name,
                    entry.document,
                    entry.value,
                    entry.problems,
                    entry.reason,
                    stored is not None,
                )
            )

    def _stored(self, file: ManifestFile, entry: Entry) -> Stored | None:
        if entry.resource is not None:
            return Stored(entry.identity, entry.resource, entry.value, file.name, entry.document)
        if self._last is None:
            self._last = {one: stored for objects in self._before.values() for one, stored in objects.items()}
        last = self._last.get(entry.identity)
        return replace(last, file=file.name, document=entry.document) if last else None

    def _duplicate(self, file: ManifestFile, entry: Entry) -> Problem:
        first = self._claims[entry.identity]
        where = f"{first.file} (document {first.document})"
        message = f"duplicate object: already defined in {where}, which is the one in force; rename or remove one"
        return Problem(file.name, entry.document, "metadata.name", message, str(entry.identity))

    def _keep(self, file: ManifestFile) -> None:
        for identity, stored in self._before.get(file.name, {}).items():
            if identity not in self._claims:
                self._claims[identity] = stored
                self._good[file.name][identity] = stored

    def _object_set(self) -> ObjectSet:
        stored: list[Stored] = []
        tables: dict[str, dict[str, Any]] = {}
        for name in sorted(self._good):
            objects = self._good[name].values()
            stored += objects
            for kind, table in (self._tables.get(name) or _by_kind(objects)).items():
                tables.setdefault(kind, {}).update(table)
        return ObjectSet(
            namespaces=tables.get("Namespace", {}),
            pods=tables.get("Pod", {}),
            services=tables.get("Service", {}),
            slices=tables.get("EndpointSlice", {}),
            routes=tables.get("HTTPRoute", {}),
            policies=tables.get("AuthorizationPolicy", {}),
            traffic=tables.get("TrafficPolicy", {}),
            rate_limits=tables.get("RateLimitPolicy", {}),
            broken=tuple(self._broken),
            problems=tuple(self._problems),
            stored=tuple(stored),
            nodes=tables.get("Node", {}),
        )
