"""Waiting for what becomes true by itself, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], bool], seconds: float, what: str, pause: float = 0.05) -> float:
    """Polls; the seconds it took.  AssertionError with `what` if it does not hold in time."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not so after {seconds:.0f} s: {what}"
        time.sleep(pause)
    return time.monotonic() - began
