"""`nodeagent bypass`: the escape hatch; works on the pinned map, with or without an agent."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli import options
from nodeagent.cli.instance import pins
from nodeagent.cli.output import message


@click.command()
@click.argument("state", type=click.Choice(["on", "off"]))
@options.bpffs
@options.run_dir
def bypass(state: str, bpffs: Path, run_dir: Path) -> None:  # noqa: ARG001  # --run-dir is taken by every command
    """Send all new connections direct (on), or back through the mesh (off).  Established ones stay as they are."""
    from nodeagent.kernel.maps import Maps

    with Maps(pins(bpffs)) as maps:
        maps.set_bypass(state == "on")
    if state == "on":
        message("bypass is on: new connections go direct, no policy applies; undo with: nodeagent bypass off")
    else:
        message("bypass is off: new connections are judged again")
