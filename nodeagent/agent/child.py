"""Long-lived child processes: started with exactly the descriptors they need, their end seen at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence


def python_module(name: str) -> tuple[str, ...]:
    """The command for a child that runs a module of ours.

    Without `site` (-S): a node's sitecustomize and .pth files import what no child of ours uses (with Debian's and
    setuptools' own: 1.4 MB of the broker, 0.7 MB of a worker).  `Child` tells it where modules are.
    """
    return (sys.executable, "-S", "-m", name)


class Child:
    """A process we own.  `on_exit(status)` runs on the loop as soon as it ends (pidfd), after it was reaped."""

    def __init__(self, argv: Sequence[str], fds: Sequence[int], on_exit: Callable[[int], None]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            argv, env=environment, pass_fds=tuple(fds), stdin=subprocess.DEVNULL, close_fds=True
        )
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._ended)
        self.exited = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self.exited.set()
        self._on_exit(status)

    def signal(self, number: signal.Signals) -> None:
        if not self.exited.is_set():
            self._process.send_signal(number)

    async def wait(self, seconds: float) -> bool:
        """True when it ended within `seconds`."""
        try:
            await asyncio.wait_for(self.exited.wait(), seconds)
        except TimeoutError:
            return False
        return True


def describe_exit(status: int) -> str:
    """Popen's return code in words: "exit 3", "killed by SIGSEGV"."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
