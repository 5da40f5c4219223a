"""Says what is being waited for: a line when a step begins, one every ten seconds, and one with the time at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK = 10.0
_began = time.monotonic()


def say(text: str) -> None:
    """One line with the seconds since this program began, on stderr: stdout stays free for results."""
    print(f"{time.monotonic() - _began:6.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str, usually: str = "") -> Iterator[None]:
    """A step that may take more than a few seconds; `usually` tells how long, where people would begin to wonder."""
    began = time.monotonic()
    say(f"{text} ..." + (f" ({usually})" if usually else ""))
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(text, began, done), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    say(f"{text}: {time.monotonic() - began:.1f} s")


def _tick(text: str, began: float, done: threading.Event) -> None:
    while not done.wait(TICK):
        say(f"{text} ... for {time.monotonic() - began:.0f} s now")
