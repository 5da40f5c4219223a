from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.kernel import cgroups
from nodeagent.kernel.inotify import DirectoryWatch


@pytest.fixture
def watch() -> Iterator[DirectoryWatch]:
    made = DirectoryWatch()
    yield made
    made.close()


@pytest.fixture(params=["files", "cgroups"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory; that one of cgroups has gone tells its parent's watch alone."""
    if request.param == "files":
        yield tmp_path
        return
    made = cgroups.root() / f"nat-inotify-{secrets.token_hex(4)}"
    made.mkdir()
    yield made
    made.rmdir()


def watches_of(watch: DirectoryWatch) -> int:
    """As the kernel counts them, of which a user may have so many."""
    return Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text().count("inotify wd")


def test_what_comes_and_goes_in_a_watched_directory_is_told_once(watch: DirectoryWatch, place: Path) -> None:
    assert watch.watch([place])
    (place / "pod").mkdir()
    assert watch.drain() == {place}
    assert watch.drain() == set()
    (place / "pod").rmdir()
    assert watch.drain() == {place}


def test_a_directory_that_is_made_again_is_watched_again(watch: DirectoryWatch, place: Path) -> None:
    path = place / "pod"
    for _ in range(3):
        path.mkdir()
        assert watch.watch([place, path])
        watch.drain()
        (path / "container").mkdir()
        assert path in watch.drain()
        (path / "container").rmdir()
        path.rmdir()
        watch.drain()
    assert watch.watch([place])


def test_what_is_not_named_any_more_takes_no_watch(watch: DirectoryWatch, place: Path) -> None:
    for number in range(5):
        path = place / f"pod{number}"
        path.mkdir()
        assert watch.watch([place, path])
        assert watch.paths == {place, path}
        path.rmdir()
        assert watch.watch([place])
    assert (watches_of(watch), set(watch.paths)) == (1, {place})


def test_a_directory_that_is_gone_is_not_watched_and_the_others_are(watch: DirectoryWatch, place: Path) -> None:
    assert not watch.watch([place / "gone", place])
    assert watch.paths == {place}
