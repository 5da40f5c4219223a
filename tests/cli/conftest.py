from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nodeagent.cli.main import cli
from tests.cli.fake_agent import FakeAgent, running

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """`nodeagent ARGUMENTS`; stdout and stderr are apart in the result."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="nodeagent")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a traceback is never how a command ends
        return result

    return call


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def ask(run: Run, agent: FakeAgent) -> Run:
    """A command pointed at the fake agent."""
    return lambda *arguments: run(*arguments, "--run-dir", agent.run_dir)
