"""When to kill a worker and when to start one: pure rules, time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.agent.rhythm import until_beat


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds.

    beat: the connect hook avoids a worker whose heartbeat is older than 2.0 s (heartbeat_limit_ms), the
    supervisor ends it 0.5 to 1 s later, so that a busy machine is not mistaken for a hung worker.
    start: from spawn to the first heartbeat; Python starts in 0.3 s, on a loaded node in a few seconds.
    """

    check: float = 0.5
    beat: float = 2.5
    start: float = 20.0
    quick_death: float = 5.0
    slow_retry: float = 1.0


DEFAULTS = Limits()


def is_hung(limits: Limits, now: float, beat: float, ready_since: float | None, started: float) -> bool:
    """`beat` and `now` are CLOCK_MONOTONIC seconds; beat 0 = none written (yet, or draining)."""
    if ready_since is None:
        return now - started > limits.start
    newest = max(beat, ready_since)
    return now - newest > limits.beat


def was_away(limits: Limits, now: float, last_check: float) -> bool:
    """True when we ourselves did not run for a while: then what lives may look old, and proves no hang.

    An answer to what we asked can be as old as this gap and a turn before it.
    """
    return now - last_check > limits.beat - limits.check


def until_check(limits: Limits, now: float, *, away: bool) -> float:
    """Seconds until the next check: on a beat, but after a gap a whole period, in which what lives has to show it."""
    return limits.check if away else until_beat(limits.check, now)


def restart_delay(limits: Limits, lifetime: float, deaths_in_row: int) -> float:
    """A worker that lived is replaced at once; one that keeps dying at start is retried, slowly, for ever."""
    if lifetime > limits.quick_death or deaths_in_row < 3:
        return 0.0
    return limits.slow_retry
