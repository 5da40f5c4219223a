"""Running commands: in the machine, or inside a (cgroup, network namespace)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

# Joins the cgroup and then the namespace, and becomes the command: the pid stays the one that Popen knows.
# (`ip netns exec` is no use here: it remounts /sys, which hides bpffs.)
_ENTER = 'echo 0 >"$1/cgroup.procs" && netns=$2 && shift 2 && exec nsenter --net="$netns" -- "$@"'


class CommandError(RuntimeError):
    """A command that the testbed itself needs has failed."""


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """The standard output of `argv`; CommandError with its messages if it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}\n{stdin or ''}")
    return done.stdout


def ip_batch(netns: str, *lines: str) -> None:
    """Runs `ip` commands inside the namespace `netns` (a name), in one process, stopping at the first error."""
    run(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(lines) + "\n")


def inside(cgroup: Path, netns: Path, argv: Sequence[str]) -> list[str]:
    """`argv`, wrapped so that it runs in that cgroup and network namespace."""
    return ["/bin/sh", "-c", _ENTER, "enter", str(cgroup), str(netns), *argv]
