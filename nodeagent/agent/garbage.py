"""The agent's garbage collector, kept from walking a big configuration again and again.

All of it is long-lived, and none of it is in a cycle: an old generation goes by reference counts, frozen or not.
But each full collection looks at every object, and stops the whole process meanwhile.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable

# What was frozen as part of a cycle and is garbage now (a task, an exception) stays until it is thawed.
THAW_EVERY = 200
# What a big configuration was read from is freed in pieces, which malloc does not give back by itself.
TRIM_AFTER = (1, 2, 3)
M_ARENA_MAX = -8  # mallopt(3)
# A change makes little that stays: the next collection may look at what came of some of them.
PAUSE_SECONDS = 60.0


class Freezer:
    """Call `freeze` when much that will stay may have been made."""

    def __init__(
        self,
        thaw_every: int = THAW_EVERY,
        pause: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thaw_every, self._pause, self._clock = thaw_every, pause, clock
        self._times = 0
        self._last = 0.0

    def freeze(self) -> None:
        """Collect what is garbage now, and exempt the rest from later collections; nothing, if it was just done."""
        now = self._clock()
        if self._times >= max(TRIM_AFTER) and now - self._last < self._pause:
            return
        self._last = now
        self._times += 1
        if self._times % self._thaw_every == 0:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if self._times in TRIM_AFTER or self._times % self._thaw_every == 0:
            _trim()


def one_arena() -> None:
    """Let all threads allocate from one heap: what one of them frees, the next can have.  Call before there are any.

    Objects are read and compiled in threads, one at a time; a heap for each keeps what each needed at its worst.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's alone
    if option is not None:
        option(M_ARENA_MAX, 1)


def _trim() -> None:
    """Give back to the kernel what the C library holds and nobody uses."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)
