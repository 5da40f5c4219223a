"""The last good state on disk: what is written is read, and a file that cannot be used is put aside, not misread."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nodeagent.config.resources import Identity
from nodeagent.kube.last_good import FORMAT, Kept, LastGood, LastGoodError
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
