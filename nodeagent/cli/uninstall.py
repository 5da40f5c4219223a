"""`nodeagent uninstall`: nothing of this instance stays in the kernel or on disk."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from nodeagent.agent.lease import locked_by, try_lock
from nodeagent.agent.settings import DEFAULT_STATE_DIR
from nodeagent.cli import options
from nodeagent.cli.errors import CliError
from nodeagent.cli.instance import agent_pid
from nodeagent.cli.output import message

# All that an instance makes in its two directories: whole trees are removed, so a mistyped path must not pass.
OURS_IN_BPFFS = re.compile(r"v\d+")
OURS_IN_RUN_DIR = re.compile(r"admin\.sock|agent\.lock|workers")


@click.command()
@options.bpffs
@options.run_dir
@click.option(
    "--state-dir", type=options.PATH, default=DEFAULT_STATE_DIR, show_default=True, help="Where the agent keeps state."
)
@click.option("--keep-state", is_flag=True, help="Keep the last good configuration.")
def uninstall(bpffs: Path, run_dir: Path, state_dir: Path, keep_state: bool) -> None:
    """Detach every hook, remove pins and counters, the run directory and the last good configuration."""
    from nodeagent.agent import removal

    pid = agent_pid(run_dir)
    if pid:
        raise CliError(
            f"the agent with pid {pid} still runs and would be left without its maps; stop it first: kill {pid}"
        )
    refuse_foreign(bpffs, OURS_IN_BPFFS, "--bpffs")
    refuse_foreign(run_dir, OURS_IN_RUN_DIR, "--run-dir")
    places = [bpffs, run_dir] if keep_state else [bpffs, run_dir, *removal.last_good(state_dir)]
    found = [path for path in places if path.exists()]
    with pins_held(bpffs, run_dir):
        removal.remove(bpffs, found)
    message("removed " + ", ".join(map(str, found)) if found else f"nothing to remove: no instance in {bpffs}")


@contextlib.contextmanager
def pins_held(bpffs: Path, run_dir: Path) -> Iterator[None]:
    """CliError if an agent works with the pins from another run directory; meanwhile none can start."""
    if not bpffs.is_dir():
        yield
        return
    lock = try_lock(bpffs, os.O_RDONLY | os.O_DIRECTORY)
    if lock is None:
        pid = locked_by(bpffs)
        who, how = (f"pid {pid}", f"kill {pid}") if pid else ("a pid that is not visible from here", "by its --run-dir")
        raise CliError(
            f"an agent with {who} works with the pins in {bpffs}, though none runs with {run_dir}: it would be left "
            f"without its maps. Nothing was removed; stop it first ({how}), and name its own --run-dir"
        )
    try:
        yield
    finally:
        os.close(lock)


def refuse_foreign(path: Path, ours: re.Pattern[str], option: str) -> None:
    """CliError if the directory holds anything that no agent puts there."""
    names = sorted(child.name for child in path.iterdir()) if path.is_dir() else []
    foreign = [name for name in names if not ours.fullmatch(name)]
    if foreign:
        raise CliError(
            f"{path} holds {', '.join(foreign[:5])}, which is not an agent's, and uninstall removes whole directories: "
            f"nothing was removed. Name the instance's own directory with {option}"
        )
