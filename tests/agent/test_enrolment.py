from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nodeagent.agent.enrolment import Changes, Enrolment, inode_behind, inode_of, open_namespace, release
from nodeagent.core.model import Workload
from tests.agent.fakes import Namespaces, pod, workloads


def run(directory: Path, scenario: Callable[[Namespaces, Enrolment], None]) -> None:
    namespaces = Namespaces(directory)
    enrolment = namespaces.enrolment()
    scenario(namespaces, enrolment)
    release(enrolment.pods.values())


def update(enrolment: Enrolment, wanted: dict[str, Workload]) -> Changes:
    return asyncio.run(enrolment.update(wanted))


def test_a_refused_pod_changes_nothing_until_its_namespace_does(tmp_path: Path) -> None:
    def scenario(namespaces: Namespaces, enrolment: Enrolment) -> None:
        wanted = workloads(good=namespaces.make("good", "1"), bad=namespaces.make("bad", "it cannot be entered"))
        update(enrolment, wanted)
        assert enrolment.is_current(wanted)
        assert "it cannot be entered" in enrolment.problems["shop/bad"]
        update(enrolment, wanted)
        assert namespaces.asked == [2]
        assert list(enrolment.problems) == ["shop/bad"]
        namespaces.make("bad", "2")
        assert not enrolment.is_current(wanted)
        assert [added.key for added in update(enrolment, wanted).added] == ["shop/bad"]
        assert enrolment.problems == {}

    run(tmp_path, scenario)


def test_a_refused_pod_is_looked_at_again_after_half_a_minute(tmp_path: Path) -> None:
    def scenario(namespaces: Namespaces, enrolment: Enrolment) -> None:
        wanted = workloads(bad=namespaces.make("bad", "it cannot be entered"))
        update(enrolment, wanted)
        namespaces.now = 29.0
        assert enrolment.is_current(wanted)
        namespaces.now = 31.0
        assert not enrolment.is_current(wanted)
        update(enrolment, wanted)
        assert namespaces.asked == [1, 1]

    run(tmp_path, scenario)


def test_a_twin_is_taken_in_as_soon_as_the_pod_whose_namespace_it_names_is_gone(tmp_path: Path) -> None:
    def scenario(namespaces: Namespaces, enrolment: Enrolment) -> None:
        path = namespaces.make("one", "1")
        update(enrolment, workloads(first=path, twin=path))
        assert "already belongs to pod shop/first" in enrolment.problems["shop/twin"]
        changes = update(enrolment, workloads(twin=path))
        assert [added.key for added in changes.added] == ["shop/twin"]
        release(changes.removed)

    run(tmp_path, scenario)


def test_pods_that_left_are_told_although_the_look_into_new_ones_failed(tmp_path: Path) -> None:
    def scenario(namespaces: Namespaces, enrolment: Enrolment) -> None:
        old, new = namespaces.make("old", "1"), namespaces.make("new", "2")
        update(enrolment, workloads(old=old))
        namespaces.failing = "the netlink child ended"
        open_before = len(os.listdir("/proc/self/fd"))
        changes = update(enrolment, workloads(new=new))
        assert [gone.key for gone in changes.removed] == ["shop/old"]
        assert "the netlink child ended" in enrolment.problems["shop/new"]
        assert "the netlink child ended" in enrolment.failing
        assert len(os.listdir("/proc/self/fd")) == open_before
        release(changes.removed)
        namespaces.failing, namespaces.now = "", 6.0
        assert [added.key for added in update(enrolment, workloads(new=new)).added] == ["shop/new"]
        assert enrolment.failing == ""

    run(tmp_path, scenario)


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, Path.mkdir])
def test_what_is_no_namespace_is_refused_without_being_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """To open a FIFO for reading would wait for a writer: the whole agent with it."""
    path = tmp_path / "not-a-namespace"
    make(path)
    enrolment = Enrolment(Namespaces(tmp_path).inspect)
    open_before = len(os.listdir("/proc/self/fd"))
    assert update(enrolment, workloads(odd=str(path))).added == []
    assert "no network namespace" in enrolment.problems["shop/odd"]
    assert enrolment.is_current(workloads(odd=str(path)))
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_the_file_of_a_namespace_is_opened() -> None:
    fd = open_namespace("/proc/self/ns/net")
    try:
        assert inode_behind(fd) == inode_of("/proc/self/ns/net")
    finally:
        os.close(fd)


def test_changes_after_changes_leave_out_what_came_and_left_again() -> None:
    stayed, passing, left = pod("a/stayed", 1, 11), pod("a/passing", 2, 12), pod("a/left", 3, 13)
    both = Changes([stayed, passing], [left]).then(Changes([], [passing]))
    assert both == Changes([stayed], [left, passing])


class Finder:
    """What was found, by UID."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.refused: dict[str, str] = {}

    def paths(self) -> dict[str, str]:
        return self.found


def by_uid(*names: str) -> dict[str, Workload]:
    pods = [Workload("shop", name, "sa", name, (), enrolled=True, uid=f"uid-{name}") for name in names]
    return {pod.key: pod for pod in pods}


def test_a_pod_without_a_path_is_taken_in_where_it_was_found(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    enrolment = Enrolment(namespaces.inspect, open_path=lambda path: os.open(path, os.O_RDONLY), found=finder)
    wanted = by_uid("web", "late")
    finder.found["uid-web"] = namespaces.make("web", "1")
    assert [added.key for added in update(enrolment, wanted).added] == ["shop/web"]
    assert enrolment.is_current(wanted)
    assert enrolment.problems == {}, "a pod that has not started is no failure"
    finder.found["uid-web"] = namespaces.make("again", "2")
    assert not enrolment.is_current(wanted)
    changes = update(enrolment, wanted)
    assert [(pod.key, pod.cookie) for pod in changes.added + changes.removed] == [("shop/web", 2), ("shop/web", 1)]
    release([*changes.removed, *enrolment.pods.values()])


def test_what_the_finder_refuses_is_a_failure_of_that_pod(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    enrolment = Enrolment(namespaces.inspect, found=finder)
    finder.refused = {"uid-web": "two pods in one namespace", "uid-of-nobody": "the same"}
    update(enrolment, by_uid("web"))
    assert enrolment.problems == {"shop/web": "two pods in one namespace"}


def test_a_manifests_path_is_preferred_to_what_was_found(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    finder.found["uid-web"] = namespaces.make("found", "1")
    named = replace(by_uid("web")["shop/web"], netns=namespaces.make("named", "2"))
    enrolment = Enrolment(namespaces.inspect, open_path=lambda path: os.open(path, os.O_RDONLY), found=finder)
    assert [pod.cookie for pod in update(enrolment, {named.key: named}).added] == [2]
    release(enrolment.pods.values())
