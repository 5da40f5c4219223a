"""Errors with the exit code they end the process with, as documented in nodeagent.cli."""

from __future__ import annotations

import click


class CliError(click.ClickException):
    """Printed to stderr as one message."""

    exit_code = 1


class NoAgentError(CliError):
    exit_code = 3


class MissingError(CliError):
    exit_code = 4
