"""Which objects every node has in force, and what Programmed says meanwhile.

A node counts when an agent is there (it reports, or its pod exists) and its Node is Ready.  A Node gone or NotReady
is not waited for: its pods are being replaced elsewhere, and a partition must not stop the cluster.  One that counts
and does not confirm is waited for, and named after a while: its agent does not run, or could not put it in force.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodeagent.config.conditions import FALSE, PROGRAMMED, TRUE, UNKNOWN
from nodeagent.status.digests import History
from nodeagent.status.entries import Stated

PATIENCE = 30.0  # seconds until a node that does not confirm is named
NAMED = 3  # nodes; the others are counted

IN_FORCE = Stated(PROGRAMMED, TRUE, "Programmed")
WAITING = Stated(PROGRAMMED, UNKNOWN, "Pending", "not every node has confirmed it yet")
NOBODY = Stated(PROGRAMMED, UNKNOWN, "Pending", "no node reports what it has in force: see kubectl get meshnodes")

NOWHERE = 0  # before the first point of a history

Key = tuple[str, str]
Version = tuple[object, ...]
_Standing = tuple[int, str]  # the point that a node has reached, and which node


@dataclass(frozen=True, slots=True)
class Report:
    """What one node has in force: kind -> digest.  `counts`: whether it is waited for."""

    node: str
    digests: Mapping[str, str]
    counts: bool = True


@dataclass(slots=True)
class _Wait:
    """`version` of the object, which is in force where the kind is at `number` or later."""

    version: Version
    number: int
    since: float
    over: bool = False
    said: Stated | None = None


def counts(node: str, ready: Mapping[str, bool] | None) -> bool:
    """`ready`: Nodes and whether they are Ready; None = not known, so that all count."""
    return ready is None or ready.get(node, False)


class Acknowledgements:
    """Of the writer.  Once all nodes had a version of an object it stays Programmed, whatever becomes of the nodes."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._waits: dict[Key, _Wait] = {}
        self._open: dict[Key, _Wait] = {}  # those of them that are not over: few of thousands
        self._histories: dict[str, History] = {}
        self._counting: list[Report] = []
        self._standings: dict[str, tuple[int, list[_Standing]]] = {}

    def heard(self, reports: Iterable[Report]) -> None:
        """All that there are."""
        self._counting = [report for report in reports if report.counts]
        self._standings.clear()

    def history(self, kind: str) -> History:
        return self._histories.setdefault(kind, History())

    def expect(self, key: Key, version: Version, number: int, now: float, *, over: bool) -> None:
        """`version` of the object `key` is in the history of its kind since `number`.  `over`: all nodes had it."""
        known = self._waits.get(key)
        if known is None or known.version != version:
            self._waits[key] = wait = _Wait(version, number, now, over)
            self._note(key, wait)

    def forget(self, key: Key) -> None:
        """It is gone, or nothing of it is to be put in force."""
        self._waits.pop(key, None)
        self._open.pop(key, None)

    def judge(self, key: Key, now: float) -> Stated:
        wait = self._waits[key]
        wait.said = self._judged(key[0], wait, now)
        wait.over = wait.said is IN_FORCE
        self._note(key, wait)
        return wait.said

    def _note(self, key: Key, wait: _Wait) -> None:
        if wait.over:
            self._open.pop(key, None)
        else:
            self._open[key] = wait

    def moved(self, now: float) -> list[Key]:
        """Those of which `judge` would say another thing than it did."""
        return [key for key, wait in self._open.items() if self._judged(key[0], wait, now) != wait.said]

    def is_open(self, key: Key) -> bool:
        """Not every node has confirmed it."""
        return key in self._open

    def due(self, now: float) -> float | None:
        """Seconds until another answer of `judge` is due although nobody reports; None = never."""
        left = (wait.since + self._patience - now for wait in self._open.values())
        return min((one for one in left if one > 0), default=None)

    def _judged(self, kind: str, wait: _Wait, now: float) -> Stated:
        if wait.over:
            return IN_FORCE
        if not self._counting:
            return NOBODY
        standing = self._standing(kind)
        missing = bisect_left(standing, (wait.number,))
        if not missing:
            return IN_FORCE
        return WAITING if now - wait.since < self._patience else _late([node for _, node in standing[:NAMED]], missing)

    def _standing(self, kind: str) -> list[_Standing]:
        """Made once for all objects: thousands may wait for as many nodes, each of which reports."""
        history = self.history(kind)
        made = self._standings.get(kind)
        if made is None or made[0] != history.newest:
            reached = ((history.number(one.digests.get(kind, "")) or NOWHERE, one.node) for one in self._counting)
            made = self._standings[kind] = history.newest, sorted(reached)
        return made[1]


def _late(first: list[str], missing: int) -> Stated:
    """`first`: of those that are missing the ones that are furthest behind."""
    named, more = ", ".join(first[:missing]), missing - NAMED
    named += f" and {more} more" if more > 0 else ""
    message = f"not in force on {named}: see kubectl get meshnodes, and the log of the agent there"
    return Stated(PROGRAMMED, FALSE, "PartiallyProgrammed", message)
