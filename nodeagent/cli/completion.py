"""`nodeagent completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nodeagent.cli.errors import CliError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script; load it with: source <(nodeagent completion bash)"""
    from nodeagent.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise CliError(f"no completion for {shell}")
    click.echo(found(cli, {}, "nodeagent", "_NODEAGENT_COMPLETE").source())
