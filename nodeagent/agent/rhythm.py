"""When what is done again and again is done: at the same moments, so that an idle agent wakes once and not for each.

A wake-up costs a process that slept more than most of what it then does.
"""

from __future__ import annotations

import asyncio
import time


def until_beat(period: float, now: float) -> float:
    """Seconds until the next whole multiple of `period` on this clock; never 0."""
    return period - now % period


def rest(period: float, now: float) -> float:
    """Seconds until a beat, at least half a period: what takes long is not done all the time."""
    left = until_beat(period, now)
    return left if left > period / 2 else left + period


async def beat(period: float) -> None:
    """Sleep until the next one after a rest."""
    await asyncio.sleep(rest(period, time.monotonic()))
