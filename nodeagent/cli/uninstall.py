"""`nodeagent uninstall`: nothing of this instance stays in the kernel or on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from nodeagent.agent.settings import DEFAULT_STATE_DIR
from nodeagent.cli import options
from nodeagent.cli.errors import CliError
from nodeagent.cli.instance import agent_pid
from nodeagent.cli.output import message


@click.command()
@options.bpffs
@options.run_dir
@click.option("--state-dir", type=options.PATH, default=DEFAULT_STATE_DIR, show_default=True)
@click.option("--keep-state", is_flag=True, help="Keep the last good configuration.")
def uninstall(bpffs: Path, run_dir: Path, state_dir: Path, keep_state: bool) -> None:
    """Detach every hook, remove pins and counters, the run directory and the last good configuration."""
    from nodeagent.agent import own_cgroup
    from nodeagent.kernel import cgroups
    from nodeagent.kernel.instance import Instance

    pid = agent_pid(run_dir)
    if pid:
        raise CliError(
            f"the agent with pid {pid} still runs and would be left without its maps; stop it first: kill {pid}"
        )
    Instance(cgroups.root(), bpffs).detach()
    removed = [bpffs, run_dir]
    if not keep_state:
        removed.append(state_dir / "last-good")
    for path in removed[1:]:
        if path.exists():
            shutil.rmtree(path)
    own_cgroup.remove_empty(cgroups.root(), bpffs)
    message("removed " + ", ".join(str(path) for path in removed))
