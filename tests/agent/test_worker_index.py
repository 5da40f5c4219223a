from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.agent.worker_index import NoFreeIndexError, claim, free_indexes


def test_an_index_stays_taken_while_the_process_that_inherited_its_lock_lives(tmp_path: Path) -> None:
    taken = claim(tmp_path)
    argv = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[taken.fd]) as holder:
        os.close(taken.fd)
        other = claim(tmp_path)
        assert (taken.index, other.index) == (0, 1)
        os.close(other.fd)
        assert 0 not in free_indexes(tmp_path, limit=4)
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(5)
    assert free_indexes(tmp_path, limit=4) == [0, 1, 2, 3]


def test_an_index_to_avoid_is_left_alone_although_it_is_free(tmp_path: Path) -> None:
    taken = claim(tmp_path, avoid={0, 1})
    os.close(taken.fd)
    assert taken.index == 2


def test_no_free_index_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    taken = [claim(tmp_path, limit=2) for _ in range(2)]
    with pytest.raises(NoFreeIndexError, match="still draining"):
        claim(tmp_path, limit=2)
    for one in taken:
        os.close(one.fd)
