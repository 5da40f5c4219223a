"""Where objects come from: the contract between `nodeagent.agent.configuration` and a directory, or an API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from nodeagent.config.objects import ObjectSet


@dataclass(frozen=True, slots=True)
class KindState:
    """How one kind is followed.  `state`: synced | listing | away | absent (no such kind is installed) | forbidden."""

    kind: str
    state: str
    objects: int
    message: str = ""  # why it is not synced, and what to do
    relists: int = 0  # that were needed after the first
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far what is in force may be behind its source.

    `stale`: seconds since the oldest kind was known to be current; 0 = all are.  `restored`: (some of) it is the last
    good state from disk, which the source has not confirmed since the start.
    """

    stale: float = 0.0
    restored: bool = False
    problem: str = ""
    kinds: tuple[KindState, ...] = ()


CURRENT = Freshness()


class Source(Protocol):
    """One consumer: `start` once, then one `watch`; `close` at the end, whatever happened."""

    @property
    def name(self) -> str:
        """For `nodeagent status`: a directory's path, an API server's address."""

    @property
    def noticed(self) -> float:
        """CLOCK_MONOTONIC seconds: when the newest change was about to be read."""

    async def start(self) -> ObjectSet:
        """Everything, or the last good state where the source cannot be asked."""

    def watch(self) -> AsyncIterator[ObjectSet]:
        """Yield an ObjectSet after each change, until cancelled."""

    def freshness(self) -> Freshness:
        """Now."""

    async def close(self) -> None:
        """End what `start` began."""
