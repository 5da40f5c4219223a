"""One writer, elected by a Lease: the rules of client-go's leader election as a state machine.

Nobody compares clocks of two machines.  A candidate notes *when it saw* the Lease change, by a clock of its own, and
takes it when it has not changed for as long as its holder promised to renew it.  The holder counts from before the
request that renewed it, and stops writing earlier than that (`renew_within`), so that what it has on its way is
answered or given up before another can begin.  What keeps two writers from harm all the same is that every write is
bound to the version that it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

RELEASED_SECONDS = 1  # a Lease given up is free at once; the API takes no 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: client-go's defaults, but for how often is asked (`renew`, `retry`, `look`)."""

    lease: float = 15.0  # without a renewal for so long, others take it
    renew_within: float = 10.0  # without one for so long, its holder no longer writes
    renew: float = 4.0  # between renewals (client-go: `retry`, 2 s)
    retry: float = 0.5  # after one that failed: one that had no answer in time leaves time for another
    look: float = 5.0  # between looks of a candidate (client-go: `retry`, but there is one on each node of a cluster)
    spread: float = 1.2  # a candidate waits up to 1 + this times `look`: they should not all come at once
    answer: float = 4.0  # that a request of the holder may take, if that ends before another can begin

    @property
    def request(self) -> float:
        """How long a request of the holder may take."""
        return min(self.answer, self.lease - self.renew_within)


@dataclass(frozen=True, slots=True)
class Record:
    """The spec of a Lease.  Times are text: they are for people."""

    holder: str = ""
    seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as the API server has it."""

    record: Record
    version: str


@dataclass(frozen=True, slots=True)
class Look:
    """Read the Lease."""


@dataclass(frozen=True, slots=True)
class Write:
    """Replace what has this version; "" = create it."""

    record: Record
    version: str


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


Step = Look | Write | Wait


class Election:
    """The caller does `step`, and says what came of it.  `jitter` returns 0 <= x < 1."""

    def __init__(self, identity: str, jitter: Callable[[], float], timing: Timing | None = None) -> None:
        self._identity = identity
        self._jitter = jitter
        self.timing = timing or Timing()
        self._seen: Seen | None = None
        self._changed = 0.0  # when we saw the record change
        self._renewed: float | None = None  # when the request began that made or kept us the holder
        self._next = -math.inf
        self._fresh = False  # `_seen` is the answer to a look
        self._absent = False  # ... which found none

    @property
    def holder(self) -> str:
        """As it was seen last; for people."""
        return self._seen.record.holder if self._seen else ""

    def leads(self, now: float) -> bool:
        """Whether a write may begin."""
        return self._renewed is not None and now < self._renewed + self.timing.renew_within

    def leads_for(self, now: float) -> float:
        """Seconds for which that is so, if it is not renewed."""
        return 0.0 if self._renewed is None else max(0.0, self._renewed + self.timing.renew_within - now)

    def step(self, now: float, wall: str) -> Step:
        """`wall`: the time, for the record."""
        if self._renewed is not None and not self.leads(now):
            self._renewed, self._fresh = None, False  # from here on a candidate as any other
        if now < self._next:
            return Wait(self._next - now)
        if self.leads(now) and self._seen is not None:
            return Write(replace(self._seen.record, renewed=wall), self._seen.version)
        if self._absent:
            return Write(self._record(wall, None), "")
        if not self._fresh or self._seen is None:
            return Look()
        return Write(self._record(wall, self._seen.record), self._seen.version)

    def looked(self, now: float, seen: Seen | None) -> None:
        """None = there is no Lease."""
        self._absent = seen is None
        self._observe(now, seen)
        self._fresh = True
        if seen is not None and not self._may_take(now, seen.record):
            self._pause(now)

    def wrote(self, began: float, now: float, seen: Seen) -> None:
        """We hold it.  `began`: when the request did."""
        self._absent = False
        self._observe(now, seen)
        self._renewed = began
        self._next = began + self.timing.renew

    def failed(self, now: float, *, conflict: bool = False) -> None:
        """`conflict`: another wrote first (or what was there is gone): only a look tells who."""
        held = self._renewed is not None
        self._absent = self._fresh = False
        if conflict and held:
            self._renewed, self._next = None, now
        elif held or self.holder == self._identity:  # it is ours, as far as we know
            self._next = now + self.timing.retry
        else:
            self._pause(now)

    def release(self, now: float, wall: str) -> Write | None:
        """What to write when we end, so that another need not wait; None = we hold nothing."""
        if not self.leads(now) or self._seen is None:
            return None
        self._renewed = None
        record = Record("", RELEASED_SECONDS, wall, wall, self._seen.record.transitions)
        return Write(record, self._seen.version)

    def _observe(self, now: float, seen: Seen | None) -> None:
        before = self._seen.record if self._seen else None
        if seen is None or seen.record != before:
            self._changed = now
        self._seen = seen

    def _may_take(self, now: float, record: Record) -> bool:
        return record.holder in ("", self._identity) or self._changed + record.seconds <= now

    def _record(self, wall: str, before: Record | None) -> Record:
        seconds = round(self.timing.lease)
        if before is not None and before.holder == self._identity:
            return replace(before, renewed=wall, seconds=seconds)
        return Record(self._identity, seconds, wall, wall, before.transitions + 1 if before else 0)

    def _pause(self, now: float) -> None:
        self._fresh = False
        self._next = now + self.timing.look * (1 + self._jitter() * self.timing.spread)


def lease_of(record: Record, namespace: str, name: str, version: str) -> dict[str, Any]:
    """The Lease to write."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if version:
        metadata["resourceVersion"] = version
    spec = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def seen_of(lease: Mapping[str, Any]) -> Seen:
    """A Lease that was read.  What somebody else left out of it counts as not held."""
    spec = lease.get("spec") or {}
    record = Record(
        str(spec.get("holderIdentity") or ""),
        int(spec.get("leaseDurationSeconds") or 0),
        str(spec.get("acquireTime") or ""),
        str(spec.get("renewTime") or ""),
        int(spec.get("leaseTransitions") or 0),
    )
    return Seen(record, str(lease["metadata"].get("resourceVersion") or ""))
