"""The last good state on disk: what comes back after a restart, and what damage does not do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nodeagent.config.last_good import MAX_QUOTED, LastGood
from nodeagent.config.objects import Good
from tests.config import builders as some
from tests.testbed import manifests

NAMES = ("shop.yaml", "with space, %2F and ä.yaml", "x" * 250 + ".yaml", os.fsdecode(b"\xff\xfe.yaml"))


def good_of(name: str, *more: str) -> Good:
    one = some.policy("p", "DENY", [{"http": {"methods": ["GET"]}}])
    content = some.text(*some.callers(), *some.service("cart"), one)
    return some.load(dict.fromkeys((name, *more), content))[0]


def written(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (directory / "last-good").iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_kept_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    good = good_of(name)
    LastGood(tmp_path).save(good)
    assert LastGood(tmp_path).load() == (good, [])
    assert all(len(one) <= MAX_QUOTED + 40 for one in written(tmp_path))


def test_long_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    one, other = ("x" * 240 + end + ".yaml" for end in "ab")
    good = {**good_of(one), **good_of(other)}
    LastGood(tmp_path).save(good)
    assert set(LastGood(tmp_path).load()[0]) == {one, other}


def test_only_changed_files_are_written_and_those_that_are_gone_are_removed(tmp_path: Path) -> None:
    store = LastGood(tmp_path)
    good = {**good_of("a.yaml"), **good_of("b.yaml")}
    store.save(good)
    before = written(tmp_path)
    store.save(
        {"a.yaml": good["a.yaml"], "b.yaml": some.load({"b.yaml": some.text(manifests.namespace("n"))})[0]["b.yaml"]}
    )
    after = written(tmp_path)
    assert after["a.yaml.json"] == before["a.yaml.json"]
    assert after["b.yaml.json"] != before["b.yaml.json"]
    store.save({"a.yaml": good["a.yaml"]})
    assert list(written(tmp_path)) == ["a.yaml.json"]


def test_a_store_that_was_loaded_knows_what_is_on_the_disk(tmp_path: Path) -> None:
    LastGood(tmp_path).save({**good_of("a.yaml"), **good_of("b.yaml")})
    before = written(tmp_path)
    again = LastGood(tmp_path)
    good, _ = again.load()
    again.save({"a.yaml": good["a.yaml"]})
    assert written(tmp_path) == {"a.yaml.json": before["a.yaml.json"]}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1, "file": "a", "objects": [1]}', b"\xff"]
)
def test_a_damaged_file_is_a_problem_and_costs_the_others_nothing(damage: bytes, tmp_path: Path) -> None:
    LastGood(tmp_path).save({**good_of("a.yaml"), **good_of("b.yaml")})
    (tmp_path / "last-good" / "a.yaml.json").write_bytes(damage)
    good, problems = LastGood(tmp_path).load()
    assert list(good) == ["b.yaml"]
    assert [Path(problem.file).name for problem in problems] == ["a.yaml.json"]
    assert "last good state is unusable" in problems[0].message


def test_an_object_that_this_release_no_longer_accepts_is_left_out(tmp_path: Path) -> None:
    LastGood(tmp_path).save(good_of("a.yaml"))
    path = tmp_path / "last-good" / "a.yaml.json"
    data = json.loads(path.read_bytes())
    for row in data["objects"]:
        if row["value"]["kind"] == "AuthorizationPolicy":
            row["value"]["spec"]["enforcementLevel"] = "Bygone"
    path.write_text(json.dumps(data))
    kinds = {identity.kind for identity in LastGood(tmp_path).load()[0]["a.yaml"]}
    assert "AuthorizationPolicy" not in kinds
    assert "Service" in kinds


def test_an_interrupted_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = good_of("a.yaml")
    LastGood(tmp_path).save(good)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        LastGood(tmp_path).save(some.load({"a.yaml": some.text(manifests.namespace("n"))})[0])
    assert LastGood(tmp_path).load() == (good, [])
    assert list(written(tmp_path)) == ["a.yaml.json"]
