"""`nodeagent version`."""

from __future__ import annotations

import platform

import click

from nodeagent import __version__
from nodeagent.cli import options


@click.command()
@options.output("table", "json", "yaml")
def version(output: str) -> None:
    """Print the version of this program, of Python and of the kernel."""
    facts = {"nodeagent": __version__, "python": platform.python_version(), "kernel": platform.release()}
    if output == "table":  # rich takes longer to import than everything else here
        click.echo(f"nodeagent {facts['nodeagent']} (Python {facts['python']}, Linux {facts['kernel']})")
        return
    from nodeagent.cli.output import printed

    printed({"version": "v1", **facts}, output)
