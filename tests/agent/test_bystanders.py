from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from nodeagent.agent.bystanders import Bystanders
from nodeagent.agent.enrolment import EnrolledPod, inode_of
from nodeagent.core.model import Workload
from tests.agent.fakes import Namespaces

STATIC = "ab" * 16


class Finder:
    """What was found: UID -> path, and the node's."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.node: list[str] = []
        self.refused: dict[str, str] = {}

    def paths(self) -> dict[str, str]:
        return self.found

    def node_paths(self) -> list[str]:
        return self.node


def pod(name: str, *, enrolled: bool = False, address: str = "10.0.0.1") -> dict[str, Workload]:
    made = Workload("shop", name, "sa", name, (address,), enrolled=enrolled, uid=f"uid-{name}")
    return {made.key: made}


def test_known_are_pods_that_are_not_enrolled_static_ones_and_the_node(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    finder.found = {
        "uid-plain": namespaces.make("plain", "1"),
        "uid-web": namespaces.make("web", "2"),
        "uid-nobody-told-us-of": namespaces.make("new", "3"),
        STATIC: namespaces.make("static", "4"),
    }
    finder.node = [namespaces.make("node", "5")]
    bystanders = Bystanders(namespaces.inspect, finder)
    pods = {**pod("plain"), **pod("web", enrolled=True)}
    assert not bystanders.is_current(pods)
    asyncio.run(bystanders.update(pods))
    assert bystanders.namespaces == {1: ("10.0.0.1", "198.18.0.2"), 4: ("198.18.0.2",), 5: ("198.18.0.2",)}
    assert bystanders.is_current(pods)
    asyncio.run(bystanders.update(pods))
    assert namespaces.asked == [3], "each is looked into once"
    finder.found.clear()
    asyncio.run(bystanders.update(pods))
    assert bystanders.namespaces == {5: ("198.18.0.2",)}


def test_a_pod_that_was_enrolled_until_now_needs_no_look_and_stays_while_its_namespace_does(tmp_path: Path) -> None:
    namespaces = Namespaces(tmp_path)
    path = namespaces.make("web", "1")
    inode = inode_of(path)
    assert inode is not None
    left = EnrolledPod("shop/web", path, inode, -1, 1, ("198.18.0.2",))
    bystanders = Bystanders(namespaces.inspect)
    asyncio.run(bystanders.update(pod("web"), [left]))
    assert (list(bystanders.namespaces), namespaces.asked) == ([1], [])
    asyncio.run(bystanders.update(pod("web")))
    assert list(bystanders.namespaces) == [1]
    asyncio.run(bystanders.update(pod("web", enrolled=True)))
    assert bystanders.namespaces == {}
    asyncio.run(bystanders.update(pod("web"), [left]))
    namespaces.make("web", "2")
    asyncio.run(bystanders.update(pod("web")))
    assert bystanders.namespaces == {}


def test_what_cannot_be_looked_into_stays_unclassified_and_is_tried_again_later(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    finder.found = {"uid-plain": namespaces.make("plain", "1")}
    bystanders = Bystanders(namespaces.inspect, finder, lambda: namespaces.now)
    namespaces.failing = "the netlink child ended"
    asyncio.run(bystanders.update(pod("plain")))
    assert bystanders.namespaces == {}
    assert bystanders.is_current(pod("plain")), "not at once"
    assert bystanders.failing
    namespaces.failing, namespaces.now = "", 6.0
    assert not bystanders.is_current(pod("plain"))
    asyncio.run(bystanders.update(pod("plain")))
    assert list(bystanders.namespaces) == [1]
    assert not bystanders.failing


def test_what_could_not_be_looked_into_and_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    finder.found = {"uid-plain": namespaces.make("plain", "1")}
    bystanders = Bystanders(namespaces.inspect, finder, lambda: namespaces.now)
    namespaces.failing, namespaces.now = "the netlink child ended", 6.0
    asyncio.run(bystanders.update(pod("plain")))
    assert bystanders.failing
    finder.found = {}
    asyncio.run(bystanders.update({}))
    assert not bystanders.failing


def test_an_address_that_came_later_is_taken_over(tmp_path: Path) -> None:
    namespaces, finder = Namespaces(tmp_path), Finder()
    finder.found = {"uid-plain": namespaces.make("plain", "1")}
    bystanders = Bystanders(namespaces.inspect, finder)
    without = {key: replace(one, addresses=()) for key, one in pod("plain").items()}
    asyncio.run(bystanders.update(without))
    asyncio.run(bystanders.update(pod("plain", address="10.0.0.7")))
    assert bystanders.namespaces == {1: ("10.0.0.7", "198.18.0.2")}
