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


def test_on_a_kernel_older_than_6_3_the_memory_is_made_without_a_flag_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.memfd_create

    def create(name: str, flags: int) -> int:
        if flags & pulse.MFD_NOEXEC_SEAL:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", create)
    with pulse.shared() as (_, seen):
        assert seen.last == 0.0


def test_where_memory_that_could_be_executed_is_refused_ours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """vm.memfd_noexec=2 on Linux 6.3 to 6.5."""
    real = os.memfd_create

    def create(name: str, flags: int) -> int:
        if not flags & pulse.MFD_NOEXEC_SEAL:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", create)
    with pulse.shared() as (fd, _):
        assert os.fstat(fd).st_size == pulse.SIZE
