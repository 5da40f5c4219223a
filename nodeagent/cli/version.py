"""`nodeagent version`."""

from __future__ import annotations

import platform

import click

from nodeagent import __version__
from nodeagent.cli import options


@click.command()
@options.output("text", "json")
def version(output: str) -> None:
    """Print the version of this program, of Python and of the kernel."""
    facts = {"nodeagent": __version__, "python": platform.python_version(), "kernel": platform.release()}
    if output == "json":
        from nodeagent.cli.output import print_json

        print_json({"version": "v1", **facts})
    else:
        click.echo(f"nodeagent {facts['nodeagent']} (Python {facts['python']}, Linux {facts['kernel']})")
