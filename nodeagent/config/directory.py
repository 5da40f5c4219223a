"""A directory of manifests, loaded and watched.  The one importer of asyncinotify.

A save is taken when it is complete (nodeagent.config.settling says when).  What was read is kept only
if the file held still for a moment afterwards.  What inotify cannot see (the target of a symbolic
link outside the directory) is found by a slow scan.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from nodeagent.config.last_good import LastGood
from nodeagent.config.manifest_files import ManifestFile, read_manifest_file, unreadable
from nodeagent.config.objects import Good, ObjectSet, merge
from nodeagent.config.problems import Problem
from nodeagent.config.settling import EVERYTHING, SETTLE, Change, Settling
from nodeagent.config.source import CURRENT, Freshness
from nodeagent.config.yaml_documents import MAX_FILE

SUFFIXES = (".yaml", ".yml", ".json")
STEADY = 0.002  # seconds that a file must hold still after it was read
SCAN = 5.0  # seconds between scans without any event
RETRY = 0.5  # seconds between attempts to watch a directory that is not there

_PARTIAL = "is still being written: what it does not define any more stays in force until its writer closes it"
_MASK = (
    Mask.CLOSE_WRITE
    | Mask.MODIFY
    | Mask.CREATE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ATTRIB
    | Mask.ONLYDIR
)
_LOST = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT

Signature = tuple[int, int, int, int]  # device, inode, mtime in ns, size


class DirectoryError(RuntimeError):
    """The directory cannot be read at all."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read last."""

    signature: Signature
    digest: bytes
    content: ManifestFile


class DirectorySource:
    """Manifests of `path` (not of directories below it); the last good state is kept under `state_dir`."""

    def __init__(self, path: Path, state_dir: Path) -> None:
        self._path = path
        self._last_good = LastGood(state_dir)
        self._good: Good | None = None
        self._files: dict[str, _Read] = {}
        self._notes: dict[str, Problem] = {}  # problems that are no manifest's, by topic
        self.noticed = time.monotonic()  # when the newest change had settled, and was about to be read

    @property
    def name(self) -> str:
        return str(self._path)

    async def start(self) -> ObjectSet:
        """`load`, in a thread."""
        return await asyncio.to_thread(self.load)

    def freshness(self) -> Freshness:
        """What cannot be read is a problem of its own; the rest is as the files are."""
        return CURRENT

    async def close(self) -> None:
        """Nothing outlives `watch`."""

    def load(self) -> ObjectSet:
        """Read everything.  Raises DirectoryError when the directory itself cannot be read."""
        if self._good is None:
            self._good, problems = self._last_good.load()
            self._notes = {problem.file: problem for problem in problems}
        try:
            names = self._names()
        except OSError as error:
            raise DirectoryError(
                f"cannot read the manifest directory {self._path}: {error.strerror}. Nothing can be configured "
                f"without it: create it, or name another one with --manifests."
            ) from error
        for name in names:
            self._read(name)
        return self._merge()

    async def watch(self) -> AsyncIterator[ObjectSet]:
        """Yield an ObjectSet after each change, until cancelled.  Call load() first."""
        await self._persist()
        while True:
            with Inotify(sync_timeout=0) as inotify:
                if self._watches(inotify):
                    async for objects in self._follow(inotify):
                        yield objects
                        await self._persist()
            await asyncio.sleep(RETRY)

    async def _follow(self, inotify: Inotify) -> AsyncIterator[ObjectSet]:
        """Serve one watch until the directory that it watches is gone."""
        loop = asyncio.get_running_loop()
        settling = Settling()
        settling.scan(loop.time())  # what changed before the watch
        while self._note_all(inotify, settling):
            self.noticed = loop.time()
            due = settling.take_due(self.noticed)
            if due and await self._take(due, inotify, settling):
                yield await asyncio.to_thread(self._merge)
            if not await _readable(inotify, _patience(settling.next(), loop.time())) and settling.is_idle():
                settling.scan(loop.time())

    def _note_all(self, inotify: Inotify, settling: Settling) -> bool:
        """Take in all events that wait.  False = the directory is gone, now or earlier."""
        now = asyncio.get_running_loop().time()
        while (event := inotify.sync_get()) is not None:
            if event.mask & _LOST:
                settling.lost = True
            self._note(event, settling, now)
        return not settling.lost

    def _note(self, event: Event, settling: Settling, now: float) -> None:
        name = str(event.name or "")
        if event.mask & Mask.Q_OVERFLOW or name.startswith(".."):  # "..data": a ConfigMap volume was switched over
            settling.scan(now + SETTLE)
        elif not _is_manifest(name):
            if event.mask & Mask.MOVED_TO:
                settling.moved_to_backup(event.cookie, now)
        elif event.mask & Mask.MOVED_FROM:
            settling.moved_from(name, event.cookie, now)
        else:
            settling.note(name, self._change(event.mask, name), now)

    def _change(self, mask: Mask, name: str) -> Change:
        if mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
            return Change.COMPLETE
        if mask & Mask.DELETE:
            return Change.GONE
        if mask & Mask.ATTRIB:
            return Change.TOUCHED
        return Change.COMPLETE if mask & Mask.CREATE and _is_link(self._path / name) else Change.WRITING

    async def _take(self, due: set[str], inotify: Inotify, settling: Settling) -> bool:
        """Read what is due; True when something is different now and held still."""
        loop = asyncio.get_running_loop()
        named = due - {EVERYTHING}
        if EVERYTHING in due:
            present, gone = await asyncio.to_thread(self._scan)
            due = named | present
            for name in settling.without_pending(gone - named):
                settling.note(name, Change.GONE, loop.time())  # not at once: it may be on its way back
        before = dict(self._files)
        still_open = {name for name in due if settling.is_open(name)}
        changed = await asyncio.to_thread(self._read_changed, settling.without_pending(due), named, still_open)
        if not changed:
            return False
        await asyncio.sleep(STEADY)
        self._note_all(inotify, settling)
        now = loop.time()  # one for all: names of one volume that are due a microsecond apart would be read apart
        for name in changed:
            self._undo_unless_steady(name, before.get(name), settling, now)
        return any(self._files.get(name) is not before.get(name) for name in changed)

    def _undo_unless_steady(self, name: str, before: _Read | None, settling: Settling, now: float) -> None:
        """Forget what was read while the file, or the whole directory, was changing; it will be read again."""
        if settling.is_pending(name):
            _put(self._files, name, before)
        elif settling.is_pending(EVERYTHING):  # one file of the old volume beside one of the new would be torn too
            _put(self._files, name, before)
            settling.with_scan(name)
        elif not self._is_steady(name):
            _put(self._files, name, before)
            settling.note(name, Change.UNSTEADY, now)

    def _scan(self) -> tuple[set[str], set[str]]:
        """(names that are there, names that were); nothing while the directory cannot be read."""
        try:
            present = {name for name in self._names() if _signature(self._path / name) is not None}
        except OSError:
            return set(), set()
        return present, self._files.keys() - present

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self._path) if _is_manifest(entry.name))

    def _read_changed(self, names: Iterable[str], named: set[str], still_open: set[str]) -> list[str]:
        return [name for name in names if self._read(name, force=name in named, partial=name in still_open)]

    def _read(self, name: str, *, force: bool = False, partial: bool = False) -> bool:
        """Bring one file up to date.  True when its content, or whether it exists, is different.

        `force` reads it although its signature is the known one: two saves may fall into one tick of
        the file system's clock.  `partial`: its writer has not closed it.
        """
        path = self._path / name
        signature, known = _signature(path), self._files.get(name)
        if signature is None:
            return self._files.pop(name, None) is not None
        if known is not None and known.signature == signature and not force:
            return False
        data = _read_bytes(path)
        digest = _digest(data, partial=partial)
        same = known is not None and known.digest == digest
        content = known.content if known is not None and same else _parse(name, data, partial=partial)
        self._files[name] = _Read(signature, digest, content)
        return not same

    def _is_steady(self, name: str) -> bool:
        read = self._files.get(name)
        return _signature(self._path / name) == (read.signature if read else None)

    def _merge(self) -> ObjectSet:
        self._good, objects = merge((read.content for read in self._files.values()), self._good or {})
        return dataclasses.replace(objects, problems=(*self._notes.values(), *objects.problems))

    async def _persist(self) -> None:
        """Keep the last good state; a disk that refuses is a problem to show, not a reason to stop."""
        topic = "last good state"
        try:
            await asyncio.to_thread(self._last_good.save, self._good or {})
            self._notes.pop(topic, None)
        except OSError as error:
            message = f"last good state cannot be written: {error}; after a restart broken objects would have none"
            self._notes[topic] = Problem(str(self._path), 0, "", message)

    def _watches(self, inotify: Inotify) -> bool:
        topic = "directory"
        try:
            inotify.add_watch(self._path, _MASK)
        except OSError as error:
            message = f"manifest directory cannot be watched: {error.strerror}; what is in force stays in force"
            self._notes[topic] = Problem(str(self._path), 0, "", message)
            return False
        self._notes.pop(topic, None)
        return True


def _patience(due: float | None, now: float) -> float:
    """Seconds until there is something to do without any event."""
    return SCAN if due is None else min(SCAN, max(0.0, due - now))


async def _readable(inotify: Inotify, seconds: float) -> bool:
    """Wait for an event without taking it: a cancelled Inotify.get() may lose what it has read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(inotify.fd, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(inotify.fd)
    return True


def _put(files: dict[str, _Read], name: str, read: _Read | None) -> None:
    if read is None:
        files.pop(name, None)
    else:
        files[name] = read


def _read_bytes(path: Path) -> bytes | str:
    """The file's bytes (one more than allowed at most), or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}; what it last defined stays in force"


def _parse(name: str, data: bytes | str, *, partial: bool) -> ManifestFile:
    file = unreadable(name, data) if isinstance(data, str) else read_manifest_file(name, data)
    if partial:
        file.incomplete = True
        file.problems.append(Problem(name, 0, "", _PARTIAL))
    return file


def _digest(data: bytes | str, *, partial: bool) -> bytes:
    content = hashlib.blake2b(data if isinstance(data, bytes) else data.encode(), person=b"partial" if partial else b"")
    return content.digest()


def _is_link(path: Path) -> bool:
    """A symbolic or a hard link: made in one piece, and nobody will close it after writing."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1


def _signature(path: Path) -> Signature | None:
    """None when there is no regular file of that name (opening a pipe would block)."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return (0, 0, 0, 0)
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _is_manifest(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith((".", "#"))
