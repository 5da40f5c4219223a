"""Options that several commands share, and how they reach a running agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nodeagent.agent.settings import DEFAULT_BPFFS, DEFAULT_RUN_DIR, admin_socket
from nodeagent.cli.errors import CliError, MissingError, NoAgentError

if TYPE_CHECKING:
    from nodeagent.admin.client import AdminClient

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PATH = click.Path(path_type=Path)

run_dir = click.option(
    "--run-dir", type=PATH, default=DEFAULT_RUN_DIR, show_default=True, help="Where the agent keeps its socket."
)
bpffs = click.option(
    "--bpffs", type=PATH, default=DEFAULT_BPFFS, show_default=True, help="Where the instance pins programs and maps."
)
bytecode = click.option(
    "--bytecode",
    type=PATH,
    default=None,
    envvar="NODEAGENT_BYTECODE",
    show_envvar=True,
    help="Directory of programs made by `nodeagent bpf compile` [default: compile at start]",
)
namespace = click.option("-n", "--namespace", default="", help="Only this namespace (default: all).")
no_headers = click.option("--no-headers", is_flag=True, help="Leave the table's header out.")


def output(*choices: str) -> Callable[[F], F]:
    """The first choice is the default."""
    text = "Format; the keys of json and yaml are stable."
    return click.option("-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help=text)


def client(directory: Path) -> AdminClient:
    from nodeagent.admin.client import AdminClient

    return AdminClient(admin_socket(directory))


def ask(action: Callable[[], T]) -> T:
    """Run one request; the client's errors become messages with the documented exit codes."""
    from nodeagent.admin.api import BadQueryError, NotFoundError
    from nodeagent.admin.client import AgentFailedError, UnreachableError

    try:
        return action()
    except UnreachableError as error:
        raise NoAgentError(str(error)) from error
    except NotFoundError as error:
        raise MissingError(str(error)) from error
    except BadQueryError as error:
        raise click.UsageError(str(error)) from error
    except AgentFailedError as error:
        raise CliError(str(error)) from error
