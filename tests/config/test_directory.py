"""A watched directory: whatever way a file is saved, no moment lacks what is saved; changes arrive; deletions count.

These tests use the real file system and inotify, and wait on the event loop only.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.config import settling
from nodeagent.config.directory import DirectoryError, DirectorySource
from nodeagent.config.objects import ObjectSet
from nodeagent.config.settling import UNCLOSED, VANISHED
from tests.acceptance import saving
from tests.config import builders as some
from tests.testbed import manifests

SAVES = 100
PATIENCE = 30.0  # seconds for a change to arrive, on a machine that is busy otherwise; it takes some 10 ms


class Watched:
    """A source with every ObjectSet that it yielded, the loaded one first."""

    def __init__(self, directory: Path, state: Path) -> None:
        self._source = DirectorySource(directory, state)
        self.seen: list[ObjectSet] = [self._source.load()]
        self._changed = asyncio.Event()

    @property
    def now(self) -> ObjectSet:
        return self.seen[-1]

    async def follow(self) -> None:
        async for objects in self._source.watch():
            self.seen.append(objects)
            self._changed.set()

    async def until(self, holds: Callable[[ObjectSet], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds(self.now):
                self._changed.clear()
                await self._changed.wait()


def watching(tmp_path: Path, scenario: Callable[[Path, Watched], Awaitable[None]], files: some.Files) -> Watched:
    """Run `scenario` beside a watch of a directory that holds `files`."""
    directory = tmp_path / "manifests"
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    watched = Watched(directory, tmp_path / "state")

    async def run() -> None:
        following = asyncio.create_task(watched.follow())
        await asyncio.sleep(0.02)  # the first scan is behind us
        await scenario(directory, watched)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
    return watched


def numbered(number: int) -> str:
    """Three documents, the policy last, so that a file cut short lacks it; long enough for several pieces."""
    annotated = manifests.namespace("shop", annotations={"note": "x" * 200, "number": str(number)})
    deny = some.policy("no-web", "DENY", [{"sources": [{"namespace": "batch"}]}], level="Network")
    deny["metadata"]["annotations"] = {"number": str(number)}
    return some.text(annotated, some.pod("shop", "web", some.WEB), deny)


def number_of(objects: ObjectSet) -> str:
    return objects.namespaces["shop"].annotations["number"]


def lacking(seen: list[ObjectSet]) -> list[int]:
    """Which of the sets lack the policy, or hold it torn from its neighbours."""
    return [
        index
        for index, one in enumerate(seen)
        if set(one.policies) != {"shop/no-web"} or set(one.pods) != {"shop/web"} or one.broken
    ]


@pytest.mark.parametrize("style", saving.STYLES)
def test_no_moment_of_a_save_lacks_the_policy_being_saved(style: str, tmp_path: Path) -> None:
    if style == "configmap":
        (tmp_path / "manifests").mkdir()
        saving.make_volume(tmp_path / "manifests", {"shop.yaml": numbered(0)})

    async def scenario(directory: Path, watched: Watched) -> None:
        for number in range(1, SAVES + 1):
            for step, _ in enumerate(saving.STYLES[style](directory / "shop.yaml", numbered(number))):
                await asyncio.sleep(0.004 if (number + step) % 5 == 0 else 0)  # long enough to be read halfway
            await asyncio.sleep(0.03 if number % 3 == 0 else 0)  # some saves are taken, some overtaken
        await watched.until(lambda objects: number_of(objects) == str(SAVES))

    watched = watching(tmp_path, scenario, {} if style == "configmap" else {"shop.yaml": numbered(0)})
    assert lacking(watched.seen) == []
    assert len({number_of(one) for one in watched.seen}) >= 10, "the saves were seen one after another"


def test_every_save_arrives_when_there_is_time_for_it(tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        for number in range(1, 31):
            saving.save("rename", directory / "shop.yaml", numbered(number))
            await watched.until(lambda objects, wanted=str(number): number_of(objects) == wanted)  # type: ignore[misc]

    watched = watching(tmp_path, scenario, {"shop.yaml": numbered(0)})
    assert [number_of(one) for one in watched.seen[-30:]] == [str(number) for number in range(1, 31)]


def test_a_file_that_changes_between_its_event_and_its_reading_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next writer comes just before each read, and has written all but the last document by then."""
    steps: list[Iterator[str]] = []
    were_read = [threading.Event() for _ in range(3)]
    read = DirectorySource._read

    def read_late(self: DirectorySource, name: str, *, force: bool = False, partial: bool = False) -> bool:
        torn = force and len(steps) < 3
        if torn:
            text = numbered(len(steps) + 2)
            steps.append(saving.cat(tmp_path / "manifests" / name, text))
            for _ in ["opened", *text[: text.rindex("---\n")].splitlines()]:
                next(steps[-1])
        changed = read(self, name, force=force, partial=partial)
        if torn:
            were_read[len(steps) - 1].set()
        return changed

    async def scenario(directory: Path, watched: Watched) -> None:
        monkeypatch.setattr(DirectorySource, "_read", read_late)
        saving.save("rename", directory / "shop.yaml", numbered(1))
        for was_read in were_read:
            assert await asyncio.to_thread(was_read.wait, PATIENCE)
            for _ in steps[-1]:
                pass
        await watched.until(lambda objects: number_of(objects) == "4")

    assert lacking(watching(tmp_path, scenario, {"shop.yaml": numbered(0)}).seen) == []


def test_a_writer_that_pauses_adds_and_removes_only_when_it_closes(tmp_path: Path) -> None:
    new = some.text(manifests.namespace("new"))

    async def scenario(directory: Path, watched: Watched) -> None:
        steps = saving.cat(directory / "shop.yaml", new + " " * 10)
        while "new" not in watched.now.namespaces:
            if next(steps) == "a piece written" and os.stat(directory / "shop.yaml").st_size >= len(new):
                await asyncio.sleep(UNCLOSED + 0.2)
        assert "shop/no-web" in watched.now.policies
        assert "still being written" in str(watched.now.problems[-1])
        for _ in steps:
            pass
        await watched.until(lambda objects: not objects.policies)
        assert not watched.now.problems

    watching(tmp_path, scenario, {"shop.yaml": numbered(0)})


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "---\n", "a: [", "\x00", "just text"])
def test_an_empty_or_unparsable_file_deletes_nothing_and_is_reported(content: str, tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        saving.save("rename", directory / "shop.yaml", content)
        await watched.until(lambda objects: bool(objects.problems))

    watched = watching(tmp_path, scenario, {"shop.yaml": numbered(7)})
    assert lacking(watched.seen) == []
    assert watched.now.problems[0].file == "shop.yaml"


def test_a_deleted_file_is_gone_but_not_before_it_could_be_back(tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        (directory / "shop.yaml").unlink()
        start = loop.time()
        await watched.until(lambda objects: not objects.policies)
        assert loop.time() - start >= VANISHED

    assert not watching(tmp_path, scenario, {"shop.yaml": numbered(0)}).now.stored


def test_an_object_that_moves_between_files_of_a_volume_is_never_missing(tmp_path: Path) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    web, deny = some.text(some.pod("shop", "web", some.WEB)), numbered(0)
    saving.make_volume(directory, {"a.yaml": web, "b.yaml": deny, "c.yaml": web})

    async def scenario(directory: Path, watched: Watched) -> None:
        for number in range(50):
            texts = {"a.yaml": web, "b.yaml": deny} if number % 2 else {"a.yaml": deny, "b.yaml": web}
            saving.make_volume(directory, {**texts, "c.yaml": web})
            await asyncio.sleep(0.003 * (number % 8))
        await asyncio.sleep(0.1)

    watched = watching(tmp_path, scenario, {})
    assert len(watched.seen) > 5
    assert all("shop/no-web" in one.policies for one in watched.seen)


def test_a_link_swapped_in_two_steps_deletes_nothing_in_between(tmp_path: Path) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    saving.make_volume(directory, {"shop.yaml": numbered(0)})

    async def scenario(directory: Path, watched: Watched) -> None:
        target = os.readlink(directory / "..data")
        (directory / "..data").unlink()
        await asyncio.sleep(VANISHED / 2)
        os.symlink(target, directory / "..data")
        await asyncio.sleep(VANISHED * 3)

    assert lacking(watching(tmp_path, scenario, {}).seen) == []


def test_a_hard_link_is_read_at_once_and_not_as_a_file_that_is_still_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settling._DELAY, settling.Change.WRITING, 10 * PATIENCE)
    (tmp_path / "elsewhere").write_text(some.text(manifests.namespace("linked")))

    async def scenario(directory: Path, watched: Watched) -> None:
        with (directory / "open.yaml").open("w") as file:
            file.write(some.text(manifests.namespace("open")))
            file.flush()
            os.link(tmp_path / "elsewhere", directory / "linked.yaml")
            await watched.until(lambda objects: "linked" in objects.namespaces)
            assert "open" not in watched.now.namespaces

    watching(tmp_path, scenario, {})


def test_a_directory_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        os.rename(directory, tmp_path / "old")
        await asyncio.sleep(0.05)
        assert "shop/no-web" in watched.now.policies, "what is in force stays in force"
        os.mkdir(directory)
        (directory / "shop.yaml").write_text(numbered(1))
        await watched.until(lambda objects: number_of(objects) == "1")
        saving.save("cat", directory / "shop.yaml", numbered(2))
        await watched.until(lambda objects: number_of(objects) == "2")

    assert lacking(watching(tmp_path, scenario, {"shop.yaml": numbered(0)}).seen) == []


def test_only_manifest_files_are_read(tmp_path: Path) -> None:
    ignored = (".shop.yaml.swp", "shop.yaml~", "#shop.yaml", ".hidden.yaml", "notes.txt", "4913")
    files = dict.fromkeys(ignored, "not: [yaml") | {"a.yaml": numbered(0)}

    async def scenario(directory: Path, watched: Watched) -> None:
        (directory / "below.yaml").mkdir()
        os.mkfifo(directory / "pipe.yaml")
        for name in ignored:
            (directory / name).write_text("still: [not")
        saving.save("rename", directory / "a.yaml", numbered(1))
        await watched.until(lambda objects: number_of(objects) == "1")

    assert watching(tmp_path, scenario, files).now.problems == ()


def test_any_file_name_can_be_reported_and_kept(tmp_path: Path) -> None:
    long, bytes_ = "x" * 245 + ".yaml", os.fsdecode(b"caf\xe9\n.yaml")
    files: dict[str, str | bytes] = {long: numbered(0), bytes_: "a: ["}

    async def scenario(directory: Path, watched: Watched) -> None:
        saving.save("recreate", directory / long, numbered(1))
        await watched.until(lambda objects: number_of(objects) == "1")
        await asyncio.sleep(0.02)  # kept on disk
        (directory / long).write_text("")

    watched = watching(tmp_path, scenario, files)
    lines = [str(problem).encode("utf-8") for problem in watched.now.problems]
    assert len(lines) == 1
    assert not any(b"\n" in line for line in lines)
    assert "shop/no-web" in Watched(tmp_path / "manifests", tmp_path / "state").now.policies


def test_a_restart_keeps_the_last_good_state_of_what_is_broken_now(tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        await asyncio.sleep(0.05)

    watching(tmp_path, scenario, {"shop.yaml": numbered(1)})
    for broken in ("", numbered(2).replace("action: DENY", "action: DENNY"), "a: [" + numbered(2)):
        (tmp_path / "manifests" / "shop.yaml").write_text(broken)
        restarted = Watched(tmp_path / "manifests", tmp_path / "state")
        assert restarted.now.policies["shop/no-web"].policy.action.value == "DENY"
        assert restarted.now.problems


def test_a_file_deleted_while_nobody_watched_is_gone_after_a_restart(tmp_path: Path) -> None:
    async def scenario(directory: Path, watched: Watched) -> None:
        await asyncio.sleep(0.05)

    watching(tmp_path, scenario, {"shop.yaml": numbered(1)})
    (tmp_path / "manifests" / "shop.yaml").unlink()
    assert not Watched(tmp_path / "manifests", tmp_path / "state").now.policies


def test_a_state_directory_that_cannot_be_written_is_a_problem_and_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")

    async def scenario(directory: Path, watched: Watched) -> None:
        saving.save("rename", directory / "shop.yaml", numbered(1))
        await watched.until(lambda objects: number_of(objects) == "1")

    watched = watching(tmp_path, scenario, {"shop.yaml": numbered(0)})
    assert any("last good state" in str(problem) for problem in watched.now.problems)


def test_a_directory_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match=r"create it, or name another one with --manifests"):
        DirectorySource(tmp_path / "missing", tmp_path / "state").load()
