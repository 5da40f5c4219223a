"""Source -> objects -> snapshot: the newest compiled configuration, its generation and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from itertools import chain
from typing import Any

from nodeagent.config import compile as compiler
from nodeagent.config.conditions import (
    ACCEPTED,
    FALSE,
    PARTIALLY_INVALID,
    RESOLVED_REFS,
    Condition,
    Conditions,
    ObjectKey,
)
from nodeagent.config.groundwork import Groundwork, lay
from nodeagent.config.locality import ANYWHERE, Locality, locality
from nodeagent.config.objects import ObjectSet
from nodeagent.config.problems import UNUSABLE, Complaint, Problem
from nodeagent.config.resources import PolicyObject, TargetingPolicy
from nodeagent.config.source import Source
from nodeagent.core.differences import Selection, changed, gone, is_near
from nodeagent.core.model import Snapshot

log = logging.getLogger(__name__)

_Targeting = PolicyObject | TargetingPolicy

FEW = 16  # objects of a kind
TARGETING = ("policies", "traffic", "rate_limits")
CHANGE_ONE_BY_ONE = ("pods", "services", "slices", "routes", *TARGETING)


class Configuration:
    """Yields a new snapshot per change; keeps the newest."""

    def __init__(
        self,
        source: Source,
        *,
        refuse_broken: bool = True,
        allow_faults: bool = False,
        kube_proxy: bool = False,
        here: Locality = ANYWHERE,
    ) -> None:
        """`here`: where this node is; without a zone, that of its Node object."""
        self._here = here
        self._refuse_broken = refuse_broken
        self._allow_faults = allow_faults
        self._kube_proxy = kube_proxy
        self.source = source
        self._objects: ObjectSet | None = None
        self._groundwork: Groundwork | None = None
        self.compiled = ObjectSet()  # what `snapshot` was made of
        self.conditions = Conditions()
        self._bad: Selection[ObjectKey, tuple[Condition, ...]] = Selection(lambda said: any(map(_is_bad, said)))
        self._generation = 0
        self._ready = asyncio.Event()
        self._told: set[Complaint] = set()
        self._told_of: tuple[object, ...] = ()
        self._asked = 0.0
        self.noticed = 0.0  # CLOCK_MONOTONIC seconds: the first change that the newest snapshot brings in force
        self.snapshot: Snapshot | None = None

    async def snapshots(self) -> AsyncGenerator[Snapshot, None]:
        """The first at once, then one per change of the objects or call of `again`; changes in a burst are merged."""
        try:
            self._take(await self.source.start())
            watching = asyncio.create_task(self._watch())
            watching.add_done_callback(lambda _task: self._ready.set())
            try:
                while True:
                    await self._next(watching)
                    yield await self._compile()
            finally:
                watching.cancel()
        finally:
            await self.source.close()

    async def _next(self, watching: asyncio.Task[None]) -> None:
        await self._ready.wait()
        if watching.done():
            watching.result()
        self._ready.clear()

    async def _watch(self) -> None:
        async for objects in self.source.watch():
            self._take(objects)

    def _take(self, objects: ObjectSet) -> None:
        self._objects = objects
        self._ask(self.source.noticed)

    def again(self) -> None:
        """Apply the same objects once more: a pod's namespace came or went."""
        self._ask(time.monotonic())

    def _ask(self, noticed: float) -> None:
        if not self._ready.is_set():
            self._asked = noticed
        self._ready.set()

    async def _compile(self) -> Snapshot:
        objects = self._objects
        if objects is None:
            raise RuntimeError("nothing was loaded: `snapshots` takes the first ObjectSet before it compiles")
        self._generation += 1
        self.noticed = self._asked
        if _is_small_step(self.compiled, objects):  # milliseconds, a fifth of which another thread would add
            snapshot, self.conditions = self._compile_all(objects)
        else:
            snapshot, self.conditions = await asyncio.to_thread(self._compile_all, objects)
        self.snapshot, self.compiled = snapshot, objects
        self._tell()
        return snapshot

    def _compile_all(self, objects: ObjectSet) -> tuple[Snapshot, Conditions]:
        here = locality(objects.nodes, self._here.node, self._here.zone)
        self._groundwork = lay(objects, self._groundwork, here)
        return compiler.compile(
            objects,
            self._generation,
            refuse_broken=self._refuse_broken,
            allow_faults=self._allow_faults,
            kube_proxy=self._kube_proxy,
            groundwork=self._groundwork,
        )

    def _tell(self) -> None:
        """Log each error and warning once, when it appears."""
        if not self._may_have_news():
            return
        errors, warnings = self.errors(), self.warnings()
        for level, complaints in ((logging.ERROR, errors), (logging.WARNING, warnings)):
            for one in complaints:
                if one not in self._told:
                    log.log(level, "%s", one.text)
        self._told = {*errors, *warnings}

    def _may_have_news(self) -> bool:
        """Not where the objects that something bad is said of are the same ones."""
        objects, bad = self._objects, self._bad.of(self.conditions.by_object)
        before, self._told_of = self._told_of, (bad, objects and objects.problems, objects and objects.broken)
        return not before or before[0] is not bad or before[1:] != self._told_of[1:]

    def errors(self) -> list[Complaint]:
        """One per fault of a file, document or object; what that means for a broken object ends the text."""
        problems = self._objects.problems if self._objects else ()
        bad = self._false(ACCEPTED)
        broken = {f"{one.kind} {one.object}": one for one in bad if not one.parent}
        said = [
            Complaint(UNUSABLE, str(problem) + _effect(problem, broken.get(problem.object))) for problem in problems
        ]
        told = {str(one.identity) for one in self._objects.broken} if self._objects else set()
        return said + [_complaint(one) for one in bad if one.parent or f"{one.kind} {one.object}" not in told]

    def warnings(self) -> list[Complaint]:
        """One per route that is in force, and has a rule or a share of requests that cannot be served."""
        return [_complaint(one) for one in (*self._partly(), *self._false(RESOLVED_REFS))]

    def rejected(self) -> list[dict[str, Any]]:
        """Objects with a False condition, as rows for `get`; the worse one last, which is the one that is shown."""
        unresolved = [_row(one, "ResolvedRefs=False", f"{one.reason}: ") for one in self._false(RESOLVED_REFS)]
        partly = [_row(one, one.type, f"{one.reason}: ") for one in self._partly()]
        return unresolved + partly + [_row(one, one.reason) for one in self._false(ACCEPTED)]

    def _partly(self) -> list[Condition]:
        return [one for one in self._worth_telling() if one.type == PARTIALLY_INVALID]

    def _false(self, kind: str) -> list[Condition]:
        return [one for one in self._worth_telling() if one.type == kind and one.status == FALSE]

    def _worth_telling(self) -> Iterator[Condition]:
        """Of objects about which something bad is said, which are few."""
        return chain.from_iterable(self._bad.of(self.conditions.by_object).values())


def _is_small_step(before: ObjectSet, now: ObjectSet) -> bool:
    if before.namespaces is not now.namespaces or before.nodes is not now.nodes:
        return False  # one may change what all of its pods meet
    near = all(is_near(getattr(before, kind), getattr(now, kind), FEW) for kind in CHANGE_ONE_BY_ONE)
    return near and not any(_is_for_a_namespace(getattr(before, kind), getattr(now, kind)) for kind in TARGETING)


def _is_for_a_namespace(before: Mapping[str, _Targeting], now: Mapping[str, _Targeting]) -> bool:
    """A policy that changed is, or was."""
    keys = changed(before, now).keys() | gone(before, now)
    found = (one for key in keys for one in (before.get(key), now.get(key)) if one is not None)
    return any(target.kind == "Namespace" for one in found for target in one.targets)


def _is_bad(condition: Condition) -> bool:
    return condition.status == FALSE or condition.type == PARTIALLY_INVALID


def _row(condition: Condition, state: str, prefix: str = "") -> dict[str, Any]:
    namespace, _, name = condition.object.rpartition("/")
    message = prefix + condition.message
    return {"kind": condition.kind, "namespace": namespace, "name": name, "reason": state, "message": message}


def _effect(problem: Problem, condition: Condition | None) -> str:
    """What a broken object's condition adds to its problem: the condition's message starts with the problem's."""
    return condition.message.removeprefix(problem.message) if condition and condition.field == problem.field else ""


def _complaint(condition: Condition) -> Complaint:
    parent = f" ({condition.parent})" if condition.parent else ""
    field = f" {condition.field}:" if condition.field else ""
    text = f"{condition.kind} {condition.object}{parent}:{field} {condition.reason}: {condition.message}"
    return Complaint(condition.reason, text)
