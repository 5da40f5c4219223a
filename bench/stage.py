"""Puts the whole scene up and takes it down again: network, cgroups, upstream, Envoy, mesh."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench import envoy, mesh, topology, upstream
from bench.errors import BusyError, ToolMissingError

LOCK = "\0nodeagent-bench"  # an abstract address: the kernel frees it, however this process ends

TOOLS = ("wrk", "nginx", "ip", "nsenter")


@dataclass(frozen=True, slots=True)
class Stage:
    """What is up; a pid is 0 where the thing was not asked for."""

    cgroups: topology.Cgroups
    directory: Path
    envoy_pid: int = 0
    mesh_pid: int = 0


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception: every `with` below cleans up


@contextmanager
def _alone() -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(LOCK)
        except OSError as error:
            raise BusyError("another benchmark runs on this machine; wait for it to end") from error
        yield


def _check_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise ToolMissingError(f"not found: {', '.join(missing)}; run: apt-get install wrk nginx-light iproute2")


@contextmanager
def standing(with_envoy: bool, with_mesh: bool) -> Iterator[Stage]:
    """The scene for the length of a `with`; SIGTERM ends it as cleanly as the end of the block does."""
    _check_tools()
    signal.signal(signal.SIGTERM, _stop)
    with ExitStack() as stack:
        stack.enter_context(_alone())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nab-")))
        cgroups = stack.enter_context(topology.cgroups())
        stack.enter_context(topology.network())
        stack.enter_context(upstream.serving(cgroups, directory))
        envoy_pid = stack.enter_context(envoy.serving(cgroups, directory)).pid if with_envoy else 0
        mesh_pid = stack.enter_context(mesh.serving(cgroups, directory)).pid if with_mesh else 0
        yield Stage(cgroups, directory, envoy_pid, mesh_pid)
