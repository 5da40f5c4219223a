"""The tables of all kinds -> an ObjectSet, in which what did not change is the same object as before.  No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nodeagent.config.objects import Broken, Contents, ObjectSet
from nodeagent.config.problems import Problem
from nodeagent.kube.kinds import KINDS
from nodeagent.kube.table import Change, Table
from nodeagent.status.entries import SHAPES

FIELDS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Service": "services",
    "EndpointSlice": "slices",
    "HTTPRoute": "routes",
    "AuthorizationPolicy": "policies",
    "TrafficPolicy": "traffic",
    "RateLimitPolicy": "rate_limits",
}


class Cluster:
    """One table per kind."""

    def __init__(self, noted: Callable[[Change], None]) -> None:
        self.tables = {kind.name: Table(noted, counted=kind.name in SHAPES) for kind in KINDS}
        self._before = ObjectSet()
        self._of: tuple[object, ...] = ()

    def objects(self, notes: Iterable[Problem] = ()) -> ObjectSet:
        """What is in force now; the same ObjectSet while nothing changed.  `notes` come before what is broken."""
        broken = self._broken()
        said = (*notes, *(problem for one in broken for problem in one.problems))
        views: dict[str, Any] = {FIELDS[name]: table.view for name, table in self.tables.items()}
        contents, before = self._contents(), self._before
        same = said == before.problems and broken is before.broken and contents == before.contents
        if same and _same(before, views):
            return before
        self._before = replace(ObjectSet(problems=said, broken=broken, contents=contents), **views)
        return self._before

    def _contents(self) -> dict[str, Contents]:
        return {name: found for name, table in self.tables.items() if (found := table.contents) is not None}

    def _broken(self) -> tuple[Broken, ...]:
        """Of all kinds; the same tuple while each kind's is the same."""
        parts = tuple(self.tables[name].broken for name in sorted(self.tables))
        if len(parts) == len(self._of) and all(one is other for one, other in zip(parts, self._of, strict=True)):
            return self._before.broken
        self._of = parts
        return tuple(one for part in parts for one in part)


def _same(objects: ObjectSet, views: Mapping[str, object]) -> bool:
    return all(getattr(objects, field) is view for field, view in views.items())
