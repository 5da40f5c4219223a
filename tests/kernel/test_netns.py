"""The netlink child from its parent's side."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.kernel import netns
from nodeagent.kernel.netns import CONNECTIONS, INSPECT, NetlinkChild, NetlinkError

HERE = "/proc/self/ns/net"


@pytest.fixture
def child() -> Iterator[NetlinkChild]:
    with NetlinkChild() as child:
        yield child


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer
    return tmp_path / "pipe"


def test_a_child_that_hangs_is_killed_and_told(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "ANSWER_S", 1.0)
    start = time.monotonic()
    with NetlinkChild() as child, pytest.raises(NetlinkError, match="no answer to 'inspect' within 1 s"):
        child.inspect([str(fifo)])
    assert time.monotonic() - start < 3


def test_an_interrupt_at_the_terminal_is_the_parents_affair(child: NetlinkChild) -> None:
    child.inspect([])  # it has started
    os.kill(child.pid, signal.SIGINT)
    for _ in range(2):
        assert child.inspect([HERE])[HERE].cookie > 0


def test_a_namespace_that_is_none_is_an_error_of_its_own(child: NetlinkChild) -> None:
    seen = child.inspect(["/proc/self/ns/mnt", HERE])
    assert "cannot enter it" in seen["/proc/self/ns/mnt"].error
    assert seen[HERE].cookie > 0
    assert {"127.0.0.1", "::1"} <= set(seen[HERE].addresses)


def test_a_question_does_not_wait_for_one_of_the_other_kind(child: NetlinkChild, fifo: Path) -> None:
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(child.established([str(fifo)])))
    waiting.start()
    assert child.inspect([HERE])[HERE].cookie > 0
    assert answers == []
    os.close(os.open(fifo, os.O_WRONLY))
    waiting.join()
    assert answers == [{}]  # it is no namespace


def test_who_asks_a_child_that_is_killed_for_the_other_kind_is_told(
    child: NetlinkChild, fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[str] = []

    def ask_long() -> None:
        with pytest.raises(NetlinkError) as told:
            child.established([str(fifo)])
        errors.append(str(told.value))

    waiting = threading.Thread(target=ask_long)
    waiting.start()
    child.inspect([HERE])
    monkeypatch.setattr(netns, "ANSWER_S", 0.5)
    with pytest.raises(NetlinkError, match="no answer to 'inspect'"):
        child.inspect([str(fifo)])
    waiting.join()
    assert errors == ["the netlink child ended at 'established': exit status -9"]


def test_a_fault_of_the_childs_own_ends_all_of_it_and_both_kinds_read_why(child: NetlinkChild) -> None:
    with pytest.raises(NetlinkError, match=r"(?s)ended at 'nonsense': .*unknown request"):
        list(child.ask(INSPECT, {"op": "nonsense"}))
    with pytest.raises(NetlinkError, match=r"(?s)ended at 'established': .*unknown request"):
        child.established([HERE])


def test_a_child_that_cannot_go_on_says_why(child: NetlinkChild) -> None:
    with pytest.raises(NetlinkError, match=r"failed at 'destroy': .*No such file"):
        list(child.ask(CONNECTIONS, {"op": "destroy", "path": "/nowhere", "rows": []}))


def test_a_namespace_that_is_gone_is_left_out_of_the_list(child: NetlinkChild) -> None:
    assert child.established(["/nowhere", HERE]).keys() == {HERE}
