"""Errors with the exit code they end the process with, as documented in nodeagent.cli."""

from __future__ import annotations

import errno
import os

import click


class CliError(click.ClickException):
    """Printed to stderr as one message."""

    exit_code = 1


class NoAgentError(CliError):
    exit_code = 3


class MissingError(CliError):
    exit_code = 4


def from_system(error: OSError) -> CliError:
    """What the kernel refused, as a message: without privileges that is expected, not a crash."""
    if error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return CliError(f"{error}: pins, maps and the agent's socket belong to root; run this as root (sudo)")
    return CliError(f"{error}; `nodeagent doctor` checks what this machine must offer")
