"""A machine in a box: a network namespace, a process tree, mounts, a host name and a cgroup root of its own.

A process inside sees an ordinary machine: its process 1, its /run and /var/lib, its /sys/fs/bpf, its root of the cgroup
tree.  Outside there are three traces: the network namespace and the cgroup called like the box, and the
directory `home`.  Killing the cgroup ends every process, and with the last of them the kernel drops all mounts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import builds, hierarchies, paths
from tests.testbed.shell import CommandError, run

NETNS = Path("/run/netns")
GRACE = 3.0  # seconds in which a program that was started must have become a process
# Joins the cgroup of every hierarchy, then becomes the command.
_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1/cgroup.procs"; shift; n=$((n-1)); done; exec "$@"'
# The cgroup namespace has to be made while the process is at the box's root, the others after it has gone to the leaf.
_SETTLE = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"'


class BoxError(RuntimeError):
    """A box or a program in it did not come up; the message names its log."""


@dataclass(frozen=True)
class Box:
    """`name` is that of the network namespace and the cgroup; `host` the host name inside."""

    name: str
    host: str
    home: Path

    def open(self) -> None:
        """Makes the box and waits until its process 1 is there."""
        (self.home / "log").mkdir(parents=True)
        run(["ip", "netns", "add", self.name])
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        hierarchies.make(self.name)
        leaf = hierarchies.entrances(self.name)[0]
        namespaces = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc"]
        init = [str(paths.HERE / "node.sh"), str(self.home), self.host, str(builds.build("pause"))]
        settle = ["/bin/sh", "-c", _SETTLE, "settle", str(leaf), *namespaces, *init]
        command = ["nsenter", f"--net={NETNS / self.name}", "unshare", "--cgroup", *settle]
        self._spawn("init", _joined(hierarchies.roots(self.name), command))
        self._wait_for("init", (self.home / "ready").exists, seconds=10)

    def start(
        self, program: str, argv: Sequence[str], ready: Callable[[], bool] | None = None, seconds: float = 60
    ) -> None:
        """Runs `argv` inside as a daemon with a log of its own; with `ready`, waits until that is true."""
        self._spawn(program, self.inside(argv))
        if ready is not None:
            self._wait_for(program, ready, seconds)

    def run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        """The output of a command inside; CommandError if it fails."""
        return run(self.inside(argv), stdin)

    def succeeds(self, argv: Sequence[str]) -> bool:
        try:
            self.run(argv)
        except CommandError:
            return False
        return True

    def inside(self, argv: Sequence[str]) -> list[str]:
        """`argv`, wrapped so that it runs in this box: its cgroups and all its namespaces."""
        return _joined(hierarchies.entrances(self.name), ["nsenter", f"--target={self.init()}", "--all", "--", *argv])

    def init(self) -> int:
        """The pid, as seen from outside, of the box's process 1."""
        for pid in hierarchies.processes(self.name):
            if _pid_inside(pid) == 1:
                return pid
        raise BoxError(f"{self.host} has no process 1 in cgroup {self.name}: make cluster-down, then make cluster-up")

    def find(self, program: str) -> list[int]:
        """Pids, as seen from outside, of the box's processes of that name."""
        return [pid for pid in hierarchies.processes(self.name) if _pid_inside(pid) and _name(pid) == program]

    def stop(self, program: str, how: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
        """Ends a daemon that `start` started, the hard way after `seconds`."""
        for pid in self.find(program):
            os.kill(pid, how)
        deadline = time.monotonic() + seconds
        while left := self.find(program):
            if time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def close(self) -> None:
        """Ends everything inside and removes every trace; a box that is half made or gone already is fine."""
        hierarchies.destroy(self.name)
        if (NETNS / self.name).exists():
            run(["ip", "netns", "del", self.name])
        if self.home.exists():
            shutil.rmtree(self.home)

    def log(self, program: str) -> Path:
        return self.home / "log" / f"{program}.log"

    def _wait_for(self, program: str, ready: Callable[[], bool], seconds: float) -> None:
        began = time.monotonic()
        while not ready():
            waited = time.monotonic() - began
            ended = waited > GRACE and program != "init" and not self.find(program)
            if ended or waited > seconds:
                why = "has ended" if ended else f"is not ready after {seconds} s"
                tail = self.log(program).read_text(encoding="utf-8", errors="replace")[-2000:]
                raise BoxError(f"{program} of {self.host} {why}. The end of {self.log(program)}:\n{tail}")
            time.sleep(0.05)

    def _spawn(self, program: str, argv: Sequence[str]) -> None:
        """Starts a daemon that is nobody's child: a cluster outlives the program that brought it up."""
        with self.log(program).open("ab") as log:
            command = ["setsid", "--fork", *argv]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)


def _joined(cgroups: Sequence[Path], argv: Sequence[str]) -> list[str]:
    return ["/bin/sh", "-ec", _JOIN, "join", str(len(cgroups)), *map(str, cgroups), *argv]


def _pid_inside(pid: int) -> int:
    """The pid in the innermost pid namespace; 0 for a process of the machine itself, or one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return int(numbers[-1]) if len(numbers) > 1 else 0


def _name(pid: int) -> str:
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return os.path.basename(first.decode(errors="replace"))
