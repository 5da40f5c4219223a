"""What one process says in memory, another sees."""

from __future__ import annotations

import subprocess
import sys
import time

from nodeagent.proxy import pulse

CHILD = "import sys; sys.path[:0] = {path!r}; from nodeagent.proxy.pulse import Pulse; Pulse(int(sys.argv[1])).beat()"


def test_who_watches_sees_when_the_other_process_ran_last() -> None:
    with pulse.shared() as (fd, seen):
        assert seen.last == 0.0
        began = time.monotonic()
        argv = [sys.executable, "-S", "-c", CHILD.format(path=sys.path), str(fd)]
        subprocess.run(argv, pass_fds=[fd], check=True, timeout=20)
    assert began <= seen.last <= time.monotonic(), "it stays readable when the descriptor is closed"
