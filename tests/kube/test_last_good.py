"""The last good state on disk: what is written is read, and a file that cannot be used is put aside, not misread."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.config.resources import Identity
from nodeagent.kube import last_good
from nodeagent.kube.last_good import FORMAT, MANY, Kept, LastGood, LastGoodError
from nodeagent.kube.table import Change

POD, POLICY = Identity("Pod", "shop", "web"), Identity("AuthorizationPolicy", "shop", "p")


def read(directory: Path) -> Kept:
    kept = LastGood(directory)
    try:
        return kept.load()
    finally:
        kept.close()


def write(directory: Path, *changes: Change, current_at: float | None = 5.0) -> Path:
    kept = LastGood(directory)
    kept.save(changes, current_at)
    kept.close()
    return kept.path


def test_nothing_was_kept_before_the_first_save(tmp_path: Path) -> None:
    assert read(tmp_path) == Kept([], 0.0)
    assert not any(tmp_path.iterdir())


def test_what_changed_is_written_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, Change(POD, good=b"1"), Change(POLICY, good=b"2"))
    write(tmp_path, Change(POLICY, broken=b"3", keep=True), current_at=None)
    assert read(tmp_path) == Kept([Change(POLICY, b"2", b"3"), Change(POD, b"1")], 5.0)
    write(tmp_path, Change(POD), Change(POLICY, good=b"4"), current_at=6.0)
    assert read(tmp_path) == Kept([Change(POLICY, b"4")], 6.0)


@pytest.mark.parametrize("other", ["save", "close", "load"])
def test_a_save_that_goes_on_in_its_thread_is_waited_for(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `asyncio.to_thread` was cancelled.  A database that is closed meanwhile is a segmentation fault."""
    began, may_go_on, prepare = threading.Event(), threading.Event(), last_good._prepare

    def slowly(database: sqlite3.Connection) -> None:
        began.set()
        assert may_go_on.wait(10)
        prepare(database)

    monkeypatch.setattr(last_good, "_prepare", slowly)
    kept = LastGood(tmp_path)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: kept.save([Change(POLICY, good=b"2")], None),
        "close": kept.close,
        "load": lambda: done.append(kept.load()),
    }
    done: list[object] = []
    first = threading.Thread(target=kept.save, args=([Change(POD, good=b"1")], 5.0))
    second = threading.Thread(target=lambda: done.append(calls[other]()))
    first.start()
    assert began.wait(10)
    second.start()
    second.join(0.2)
    assert done == []
    may_go_on.set()
    for thread in (first, second):
        thread.join(10)
    kept.close()
    assert done
    saved = [Change(POLICY, b"2")] if other == "save" else []
    assert read(tmp_path) == Kept([*saved, Change(POD, b"1")], 5.0)


def test_what_was_kept_of_lists_that_never_ended_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, Change(POD, good=b"1"), current_at=None)
    assert read(tmp_path) == Kept([], 0.0)
    write(tmp_path, Change(POLICY, good=b"2"))
    assert read(tmp_path) == Kept([Change(POLICY, b"2")], 5.0), "nor does it come back with a list that ends"


def test_what_an_agent_had_written_in_part_never_becomes_whole_once_another_has_begun_anew(tmp_path: Path) -> None:
    older, newer = LastGood(tmp_path), LastGood(tmp_path)
    older.save([Change(POLICY, good=b"1")], None)
    assert newer.load() == Kept([], 0.0)
    older.save([Change(POD, good=b"2")], 5.0)
    assert read(tmp_path) == Kept([], 0.0)
    older.close()
    newer.close()


def test_an_agent_beside_another_one_leaves_what_is_whole_as_it_is(tmp_path: Path) -> None:
    older, newer = LastGood(tmp_path), LastGood(tmp_path)
    older.save([Change(POLICY, good=b"1")], 5.0)
    assert newer.load() == Kept([Change(POLICY, b"1")], 5.0)
    older.save([Change(POD, good=b"2")], 6.0)
    newer.save([Change(POLICY, good=b"3")], 7.0)
    older.close()
    newer.close()
    assert read(tmp_path) == Kept([Change(POLICY, b"3"), Change(POD, b"2")], 7.0)


def test_a_broken_object_that_was_deleted_before_has_no_last_good_state(tmp_path: Path) -> None:
    write(tmp_path, Change(POLICY, good=b"1"))
    write(tmp_path, Change(POLICY, broken=b"2"))
    assert read(tmp_path).objects == [Change(POLICY, None, b"2")]


@pytest.mark.parametrize("damage", ["bytes", "format", "table"])
def test_a_file_that_cannot_be_used_is_put_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, Change(POD, good=b"1"))
    if damage == "bytes":
        path.write_bytes(b"no database " * 1000)
    else:
        database = sqlite3.connect(path)
        database.execute(f"PRAGMA user_version = {FORMAT + 1}" if damage == "format" else "DROP TABLE objects")
        database.commit()
        database.close()
    with pytest.raises(LastGoodError, match=r"it is now cluster\.unusable"):
        read(tmp_path)
    write(tmp_path, Change(POD, good=b"2"))
    assert read(tmp_path).objects == [Change(POD, b"2")]


def test_a_file_that_another_agent_has_for_long_is_an_error_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.kube.last_good.BUSY_SECONDS", 0.05)
    path = write(tmp_path, Change(POD, good=b"1"))
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LastGoodError, match="locked"):
        write(tmp_path, Change(POD, good=b"2"))
    other.close()
    assert read(tmp_path).objects == [Change(POD, b"1")]


# ---- the kernel's cache of the files ----

A_LIST = [Change(Identity("Pod", "shop", f"web-{number}"), good=b"x" * 400) for number in range(4000)]
libc = ctypes.CDLL(None, use_errno=True)


def cached_bytes(path: Path) -> int:
    """Of a file, in the kernel's page cache.  Looking does not read it."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as memory:
        pages = ctypes.create_string_buffer(-(-len(memory) // mmap.PAGESIZE))
        start = (ctypes.c_char * len(memory)).from_buffer(memory)
        failed = libc.mincore(start, ctypes.c_size_t(len(memory)), pages)
        del start
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(page[0] & 1 for page in pages) * mmap.PAGESIZE


def cached(kept: LastGood) -> int:
    """Its file, and the log beside it while it is open."""
    return sum(cached_bytes(path) for path in files(kept))


def files(kept: LastGood) -> list[Path]:
    return [path for path in kept.path.parent.iterdir() if not path.name.endswith("-shm")]


def test_a_list_that_was_saved_does_not_stay_in_memory(tmp_path: Path) -> None:
    kept = LastGood(tmp_path)
    kept.save(A_LIST, 5.0)
    assert kept.path.stat().st_size > 1_500_000
    assert cached(kept) < 100_000
    kept.path.read_bytes()
    kept.close()
    assert cached(kept) < 100_000
    assert len(read(tmp_path).objects) == len(A_LIST)


def test_what_was_loaded_does_not_stay_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path, *A_LIST)
    assert len(path.read_bytes()) > 1_500_000
    assert cached_bytes(path) > 1_500_000
    kept = LastGood(tmp_path)
    kept.load()
    assert cached(kept) < 100_000
    kept.close()


def test_changes_find_the_pages_of_those_before_until_none_come_any_more(tmp_path: Path) -> None:
    kept = LastGood(tmp_path)
    kept.save(A_LIST, 5.0)
    kept.path.read_bytes()  # as changes all over the file would
    kept.save(A_LIST[: MANY - 1], 6.0)
    assert cached(kept) > 1_500_000
    kept.save([], 7.0)
    for path in files(kept):  # what was written in between has to be on disk first
        with path.open("rb") as file:
            os.fsync(file.fileno())
    kept.save([], 8.0)
    assert cached(kept) < 100_000
    kept.close()


def test_a_file_system_that_takes_no_advice_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refused)
    write(tmp_path, *A_LIST)
    assert len(read(tmp_path).objects) == len(A_LIST)


def test_another_agent_that_ends_does_not_delete_the_log_that_this_one_writes(tmp_path: Path) -> None:
    """SQLite tells by a lock on the file, and a process loses its locks when it closes any descriptor of the file."""
    kept = LastGood(tmp_path)
    kept.save(A_LIST, 5.0)
    log = kept.path.with_name(kept.path.name + "-wal")
    before = log.stat().st_ino
    other = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('SELECT * FROM state').fetchall()"
    subprocess.run([sys.executable, "-c", other + "; d.close()", str(kept.path)], check=True, timeout=30)
    assert log.exists()
    assert log.stat().st_ino == before
    kept.close()
