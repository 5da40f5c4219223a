"""When is a changed file worth reading?  Pure: events and the time go in, names that are due come out.

A file renamed into place is complete; a file written in place is complete when its writer closes
it; a file that vanished may be on its way back, because editors move the old one away first.  One whose
writer pauses (`cat > file` at a terminal) is read as it is, but may only add to the configuration: what
it does not say yet counts as gone once it is closed, or abandoned.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

SETTLE = 0.005  # seconds between the last event and reading
VANISHED = 0.05  # a deleted file may come back (unlink and create, as git does)
MOVED_AWAY = 0.5  # a file that got another name inside the directory: an editor's backup
UNCLOSED = 2.0  # a writer that does not close is read this long after its last write
ABANDONED = 60.0  # and taken for done this long after it
MAX_MOVES = 1024

EVERYTHING = ""  # the name that stands for a scan of the whole directory


class Change(enum.Enum):
    """What an event says about a name."""

    COMPLETE = enum.auto()  # renamed into place, closed after writing, a symbolic link made
    WRITING = enum.auto()  # created or written to, not closed yet
    TOUCHED = enum.auto()  # attributes
    UNSTEADY = enum.auto()  # changed while it was read, by somebody whose events do not reach us
    GONE = enum.auto()


_DELAY = {
    Change.COMPLETE: SETTLE,
    Change.WRITING: UNCLOSED,
    Change.TOUCHED: SETTLE,
    Change.UNSTEADY: UNCLOSED,
    Change.GONE: VANISHED,
}


class Settling:
    """Names with something to read, each with the time it is due."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._open: dict[str, float] = {}  # not closed yet -> when it is taken for abandoned
        self._moves: dict[int, str] = {}
        self.lost = False  # the directory itself is gone: no event will come any more

    def note(self, name: str, change: Change, now: float) -> None:
        """The last event decides, except that touching a file does not complete it."""
        if change is not Change.TOUCHED or name not in self._due:
            self._due[name] = now + _DELAY[change]
        if change is Change.WRITING:
            self._open[name] = now + ABANDONED
        elif change in (Change.COMPLETE, Change.GONE):
            self._open.pop(name, None)

    def moved_from(self, name: str, cookie: int, now: float) -> None:
        self.note(name, Change.GONE, now)
        if len(self._moves) >= MAX_MOVES:
            self._moves.clear()
        self._moves[cookie] = name

    def moved_to_backup(self, cookie: int, now: float) -> None:
        """The file of this move is still in the directory, under a name that is no manifest's."""
        name = self._moves.pop(cookie, None)
        if name in self._due:
            self._due[name] = now + MOVED_AWAY

    def scan(self, now: float) -> None:
        self._due[EVERYTHING] = now

    def with_scan(self, name: str) -> None:
        """Read it with the scan that is due, not a moment later: files of one volume belong together."""
        self._due[name] = self._due[EVERYTHING]

    def next(self) -> float | None:
        return min((*self._due.values(), *self._open.values()), default=None)

    def is_idle(self) -> bool:
        """True when nothing is due soon; files that nobody closes may wait."""
        return not self._due

    def is_pending(self, name: str) -> bool:
        return name in self._due

    def is_open(self, name: str) -> bool:
        """True while somebody is still writing it."""
        return name in self._open

    def take_due(self, now: float) -> set[str]:
        due = set()
        for waiting in (self._due, self._open):
            for name in [name for name, when in waiting.items() if when <= now]:
                del waiting[name]
                due.add(name)
        return due

    def without_pending(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self._due]
