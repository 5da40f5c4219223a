"""`nodeagent config dump`: the snapshot that is in force."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli import options
from nodeagent.cli.output import printed


@click.group()
def config() -> None:
    """Show the compiled configuration."""


@config.command()
@options.output("json", "yaml")
@options.run_dir
def dump(output: str, run_dir: Path) -> None:
    """Print the whole snapshot: destinations with their rules and policies, and workloads."""
    client = options.client(run_dir)
    printed(options.ask(lambda: client.get("/v1/snapshot")), output)
