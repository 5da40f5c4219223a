"""The last good state on disk: one SQLite file, one row per object, written as objects change.

A node that restarts without an API server enforces what this holds.  Of a broken object both are kept, the last good
state and the broken one, because a policy that never was good refuses what it protects, after a restart as well.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodeagent.config.resources import Identity
from nodeagent.kube.table import Change

NAME = "cluster.db"
FORMAT = 1  # of rows: an older or newer agent's are not read
BUSY_SECONDS = 5.0  # another agent has the file for a moment, at a takeover
MANY = 250  # changes in one save: a list was read, and the next save will not need the same pages
CHECKPOINT_PAGES = 256  # of 4 KiB, in the log; by default 1000, and all of it is cached until then
CACHE_KIB = 512  # of SQLite's own; by default 2000, and once in use it is held for ever
_CONTENT = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})  # no table, no database
_CREATE = (
    """CREATE TABLE IF NOT EXISTS objects (
        kind TEXT, namespace TEXT, name TEXT, good BLOB, broken BLOB, PRIMARY KEY (kind, namespace, name)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), current_at REAL)",
    f"PRAGMA user_version = {FORMAT}",
)
_PUT = """INSERT INTO objects VALUES (:kind, :namespace, :name, :good, :broken)
    ON CONFLICT DO UPDATE SET good = CASE WHEN :keep THEN good ELSE excluded.good END, broken = excluded.broken"""
_DELETE = "DELETE FROM objects WHERE kind = :kind AND namespace = :namespace AND name = :name"
_CURRENT = "INSERT INTO state VALUES (1, ?) ON CONFLICT DO UPDATE SET current_at = excluded.current_at"


class LastGoodError(OSError):
    """The disk refuses, or what it holds cannot be used."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`current_at`: Unix time when it was last known to be what the API server has."""

    objects: list[Change]
    current_at: float


class LastGood:
    """Reads and writes <state_dir>/last-good/cluster.db.  Calls block, and may come from any thread.

    One waits for another: who cancels `asyncio.to_thread` does not end what runs there, and a database that is closed
    under a thread that uses it takes the whole process along.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "last-good" / NAME
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._epoch = 0  # counts how often an agent has begun anew
        self._files: list[int] = []  # descriptors, as long as the database is open

    def load(self) -> Kept:
        """Everything kept by an earlier run.  Raises LastGoodError.

        What a run has saved whose first lists never ended is half of a cluster, perhaps pods without their policies: it
        is dropped.  A file that never can be used is put aside, so that the next `save` starts a new one.
        """
        with self._lock:
            return self._load()

    def _load(self) -> Kept:
        if not self.path.exists():
            return Kept([], 0.0)
        try:
            database = self._open()
            (current_at,) = database.execute("SELECT current_at FROM state").fetchone() or (0.0,)
            if not current_at:
                self._begin_anew(database)
            objects = list(_rows(database))
        except (OSError, sqlite3.Error, _FormatError) as error:
            self._close()
            aside = self._put_aside() if _is_content(error) else ""
            raise LastGoodError(f"{self.path} cannot be used: {error}{aside}") from error
        self._forget_pages()
        return Kept(objects, current_at)

    def save(self, changes: Collection[Change], current_at: float | None) -> None:
        """In one transaction; `current_at` None leaves that time as it is.  Raises LastGoodError.

        Nothing is written once a later agent has begun anew: it drops what an agent before it has written in part, and
        with what that one writes later it would look whole.
        """
        with self._lock:
            self._save(changes, current_at)

    def _save(self, changes: Collection[Change], current_at: float | None) -> None:
        try:
            with self._open() as database:
                database.execute("BEGIN IMMEDIATE")
                if _epoch(database) != self._epoch:
                    return
                for change in changes:
                    database.execute(_DELETE if _is_gone(change) else _PUT, _row(change))
                if current_at is not None:
                    database.execute(_CURRENT, (current_at,))
        except (OSError, sqlite3.Error, _FormatError) as error:
            self._close()
            raise LastGoodError(f"{self.path} cannot be written: {error}") from error
        if not changes or len(changes) >= MANY:
            self._forget_pages()

    def _begin_anew(self, database: sqlite3.Connection) -> None:
        with database:
            database.execute("DELETE FROM objects")
            self._epoch = _epoch(database) + 1
            database.execute(f"PRAGMA application_id = {self._epoch}")

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):  # what was committed is on disk already
                database.close()
        self._forget_pages()  # what the last checkpoint wrote
        while self._files:  # not before the database: closing one ends the locks that the process has on the file
            os.close(self._files.pop())

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
            _prepare(self._database)
            self._epoch = _epoch(self._database)
            self._open_files()
        return self._database

    def _open_files(self) -> None:
        for path in (self.path, self.path.with_name(NAME + "-wal")):
            with suppress(FileNotFoundError):  # no log where the file system can have none
                self._files.append(os.open(path, os.O_RDONLY))

    def _forget_pages(self) -> None:
        """What the kernel caches of the files counts as the agent's memory; nobody reads them until the next start.

        Not after a few changes: in a busy cluster the next ones need some of the same pages, and reading costs more.
        """
        for fd in self._files:
            with suppress(OSError):  # advice: a file system without it keeps its pages until memory is short
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _put_aside(self) -> str:
        aside = self.path.with_suffix(".unusable")
        try:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(NAME + suffix).unlink(missing_ok=True)
            self.path.replace(aside)
        except OSError as error:
            return f"; it cannot be put aside either: {error}"
        return f"; it is now {aside.name}"


class _FormatError(ValueError):
    pass


def _is_content(error: Exception) -> bool:
    """True = the file will be no better at the next attempt."""
    if isinstance(error, sqlite3.Error):
        return error.sqlite_errorcode & 0xFF in _CONTENT
    return isinstance(error, _FormatError)


def _epoch(database: sqlite3.Connection) -> int:
    (number,) = database.execute("PRAGMA application_id").fetchone()
    return int(number)


def _prepare(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise _FormatError(f"format {version}, expected {FORMAT}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    database.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
    database.execute("PRAGMA synchronous = NORMAL")  # after a power cut the last seconds may be missing, no more
    if not version:
        for statement in _CREATE:
            database.execute(statement)


def _rows(database: sqlite3.Connection) -> Iterator[Change]:
    for kind, namespace, name, good, broken in database.execute("SELECT * FROM objects"):
        yield Change(Identity(kind, namespace, name), good, broken)


def _is_gone(change: Change) -> bool:
    return change.good is None and change.broken is None


def _row(change: Change) -> dict[str, object]:
    kind, namespace, name = change.identity
    row = {"kind": kind, "namespace": namespace, "name": name}
    return {**row, "good": change.good, "broken": change.broken, "keep": change.keep}
