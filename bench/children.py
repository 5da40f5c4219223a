"""Child processes that live in a network namespace and a cgroup, and never outlive the benchmark."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.errors import ChildFailedError

PR_SET_PDEATHSIG = 1  # prctl(2): the kernel signals the child when its parent dies, even by SIGKILL

LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program runs: the name of a network namespace ("" = this one) and a cgroup directory."""

    netns: str
    cgroup: Path

    def argv(self, argv: Sequence[str]) -> list[str]:
        # nsenter and not `ip netns exec`: it leaves the mounts alone, so cgroup and bpf stay visible.
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *argv] if self.netns else list(argv)


def _entering(cgroup: Path) -> Callable[[], None]:
    def enter() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        (cgroup / "cgroup.procs").write_text("0")

    return enter


def output_of(place: Place, argv: Sequence[str], timeout: float, cwd: Path | None = None) -> str:
    """Standard output of a program that must end well within `timeout` seconds."""
    try:
        done = subprocess.run(
            place.argv(argv),
            preexec_fn=_entering(place.cgroup),
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildFailedError(f"{argv[0]} did not end within {timeout:.0f} s") from error
    if done.returncode:
        raise ChildFailedError(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextmanager
def running(
    place: Place,
    argv: Sequence[str],
    log: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
    patience: float = 10.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the length of a `with`; ended by SIGTERM, and by SIGKILL after `patience` seconds."""
    process = subprocess.Popen(
        place.argv(argv),
        preexec_fn=_entering(place.cgroup),  # noqa: PLW1509 the benchmark has one thread
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})},
        pass_fds=tuple(pass_fds),
        cwd=cwd,
    )
    try:
        yield process
    finally:
        end(process, patience)


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
