from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.kernel.inotify import DirectoryWatch


@pytest.fixture
def watch() -> Iterator[DirectoryWatch]:
    made = DirectoryWatch()
    yield made
    made.close()


def test_what_comes_and_goes_in_a_watched_directory_is_told_once(watch: DirectoryWatch, tmp_path: Path) -> None:
    assert watch.watch(tmp_path)
    (tmp_path / "pod").mkdir()
    assert watch.drain() == {tmp_path}
    assert watch.drain() == set()
    (tmp_path / "pod").rmdir()
    assert watch.drain() == {tmp_path}


def test_a_directory_that_is_made_again_is_watched_again(watch: DirectoryWatch, tmp_path: Path) -> None:
    path = tmp_path / "pod"
    for _ in range(2):
        path.mkdir()
        assert watch.watch(path)
        assert watch.watch(path), "once more is fine"
        (path / "container").mkdir()
        assert path in watch.drain()
        (path / "container").rmdir()
        path.rmdir()
        assert path in watch.drain()


def test_a_directory_that_is_gone_is_not_watched(watch: DirectoryWatch, tmp_path: Path) -> None:
    assert not watch.watch(tmp_path / "gone")
