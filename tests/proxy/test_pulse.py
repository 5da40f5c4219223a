"""What one process says in memory, another sees."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from nodeagent.proxy import pulse

CHILD = "import sys; sys.path[:0] = {path!r}; from nodeagent.proxy.pulse import Pulse; Pulse(int(sys.argv[1])).beat()"


def test_who_watches_sees_when_the_other_process_ran_last() -> None:
    with pulse.shared() as (fd, seen):
        assert seen.last == 0.0
        began = time.monotonic()
        argv = [sys.executable, "-S", "-c", CHILD.format(path=sys.path), str(fd)]
        subprocess.run(argv, pass_fds=[fd], check=True, timeout=20)
    assert began <= seen.last <= time.monotonic(), "it stays readable when the descriptor is closed"


@pytest.mark.parametrize(
    ("has_flag", "why"),
    [(True, errno.EINVAL), (False, errno.EACCES)],
    ids=["older than 6.3, which does not know the flag", "6.3 to 6.5 with vm.memfd_noexec=2, which asks for it"],
)
def test_the_memory_is_made_on_a_kernel_that_refuses_one_of_both_ways(
    has_flag: bool, why: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.memfd_create

    def create(name: str, flags: int) -> int:
        if bool(flags & pulse.MFD_NOEXEC_SEAL) is has_flag:
            raise OSError(why, os.strerror(why))
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", create)
    with pulse.shared() as (fd, seen):
        assert seen.last == 0.0
        assert os.fstat(fd).st_size == pulse.SIZE
