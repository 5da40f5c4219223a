"""The netlink child from its parent's side."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nodeagent.kernel import netns
from nodeagent.kernel.netns import NetlinkChild, NetlinkError


def test_a_child_that_hangs_is_killed_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "ANSWER_S", 1.0)
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer that never comes
    start = time.monotonic()
    with NetlinkChild() as child, pytest.raises(NetlinkError, match="no answer to 'inspect' within 1 s"):
        child.inspect([str(tmp_path / "pipe")])
    assert time.monotonic() - start < 3


def test_a_namespace_that_is_none_is_an_error_of_its_own() -> None:
    with NetlinkChild() as child:
        found = child.inspect(["/proc/self/ns/mnt", "/proc/self/ns/net"])
    assert "cannot enter it" in found["/proc/self/ns/mnt"].error
    assert found["/proc/self/ns/net"].cookie > 0
