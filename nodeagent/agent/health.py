"""When to kill a worker and when to start one: pure rules, time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.agent.rhythm import until_beat

SURELY = 0.001  # seconds: a timer can fire a moment early


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds.

    beat: the connect hook avoids a worker whose heartbeat is older than 2.0 s (heartbeat_limit_ms), the
    supervisor ends it 0.4 s later, so that a busy machine is not mistaken for a hung worker.  What connected to it
    before waits until then, so it is on that moment that the supervisor looks, and not on its next beat.
    period: how old the newest beat of one that lives can be.
    start: from spawn to the first heartbeat; Python starts in 0.3 s, on a loaded node in a few seconds.
    """

    check: float = 1.0
    beat: float = 2.4
    period: float = 0.5
    start: float = 20.0
    quick_death: float = 5.0
    slow_retry: float = 1.0


DEFAULTS = Limits()


def hung_at(limits: Limits, beat: float, ready_since: float | None, started: float) -> float:
    """From when on it is hung, if nothing more is heard; beat 0 = none written (yet, or draining).

    All in CLOCK_MONOTONIC seconds.
    """
    if ready_since is None:
        return started + limits.start
    return max(beat, ready_since) + limits.beat


class Presence:
    """Whether we ran ourselves: after a gap what lives may look old, and proves no hang.

    It then has a whole period to show that it lives, also when something wakes us before that is over.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._last = now
        self.judges_from = now

    def judges(self, now: float) -> bool:
        """Call at each check.

        The newest beat of what stood still with us can be as old as the gap and a period before it.
        """
        if now - self._last > self._limits.beat - self._limits.period:
            self.judges_from = now + self._limits.check
        self._last = now
        return now >= self.judges_from


def until_check(limits: Limits, now: float, moments: Iterable[float]) -> float:
    """Seconds until the next check: on a beat, or at one of `moments`, as when one would be hung that is not yet."""
    return min([until_beat(limits.check, now), *(at - now + SURELY for at in moments if at >= now)])


def restart_delay(limits: Limits, lifetime: float, deaths_in_row: int) -> float:
    """A worker that lived is replaced at once; one that keeps dying at start is retried, slowly, for ever."""
    if lifetime > limits.quick_death or deaths_in_row < 3:
        return 0.0
    return limits.slow_retry
