"""The command tree.  A command's module is imported when it is called: `run` must stay small."""

from __future__ import annotations

import errno
import importlib
import io
import sys
from typing import Any

import click

from nodeagent import __version__
from nodeagent.cli.errors import from_system

# command -> (module, attribute, one line of help)
COMMANDS = {
    "run": ("run", "run", "Run the agent of this node in the foreground."),
    "status": ("status", "status", "Say whether the mesh works here, and what is in force."),
    "doctor": ("doctor", "doctor", "Check this machine and the instance; name what is wrong and its fix."),
    "get": ("get", "get", "Show services, endpoints, routes, policies, workloads or connections."),
    "observe": ("observe", "observe", "Show requests as they pass through the proxy."),
    "explain": ("explain", "explain", "Say which route, backend and rule a request would meet."),
    "bpf": ("bpf", "bpf", "Look at programs and maps in the kernel; works without an agent."),
    "config": ("config", "config", "Show the compiled configuration."),
    "bypass": ("bypass", "bypass", "Send all new connections direct (on), or back through the mesh (off)."),
    "uninstall": ("uninstall", "uninstall", "Remove everything this instance has in the kernel."),
    "version": ("version", "version", "Print the version."),
    "completion": ("completion", "completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """Lists commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"nodeagent.cli.{entry[0]}")
        command: click.Command = getattr(module, entry[1])
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `nodeagent ... | head`: click ends quietly
                raise
            raise from_system(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


CONTEXT: dict[str, list[str]] = {"help_option_names": ["-h", "--help"]}


@click.command(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nodeagent")
def cli() -> None:
    """A service mesh node: eBPF redirects, a proxy enforces, Prometheus counts."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without the doctor's marks must not end in a traceback
