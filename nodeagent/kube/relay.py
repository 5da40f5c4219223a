"""Hands on what one watch says to others who follow the same collection.  No I/O.

Every node's agent watches the kinds that have a status, for what is in force; the one that writes statuses needs the
same objects whole.  A second watch of each kind would cost it every event twice: the bytes, TLS and a wake-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Tap(Protocol):
    def event(self, line: bytes) -> None:
        """Of a watch: an object that was added, modified or deleted."""

    def missed(self) -> None:
        """Events may be missing before the next one."""


class Relay:
    """By path of the collection."""

    def __init__(self) -> None:
        self._taps: dict[str, list[Tap]] = {}

    def event(self, path: str, line: bytes) -> None:
        for tap in self._taps.get(path, ()):
            tap.event(line)

    def missed(self, path: str) -> None:
        for tap in self._taps.get(path, ()):
            tap.missed()

    @contextmanager
    def tapped(self, path: str, tap: Tap) -> Iterator[None]:
        taps = self._taps.setdefault(path, [])
        taps.append(tap)
        try:
            yield
        finally:
            taps.remove(tap)
