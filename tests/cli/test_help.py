"""Every command and option documents itself, and is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nodeagent.cli.main import COMMANDS, cli
from tests.cli.conftest import Run


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from tree(child, (*path, name))


ALL = dict(tree(cli))
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}
# Which formats each command writes; the first is the default.
FORMATS = {
    "status": ["table", "json", "yaml"],
    "doctor": ["table", "json", "yaml"],
    "get": ["table", "wide", "json", "yaml", "name"],
    "observe": ["table", "json", "yaml"],
    "explain": ["table", "json", "yaml"],
    "bpf progs": ["table", "wide", "json", "yaml"],
    "bpf maps": ["table", "wide", "json", "yaml"],
    "bpf map dump": ["table", "json", "yaml"],
    "config dump": ["json", "yaml"],
    "version": ["table", "json", "yaml"],
}
CLI_DOC = Path(__file__).parents[2] / "docs" / "cli.md"
WITHOUT_DATA = {"run", "bpf compile", "bypass", "uninstall", "completion"}


def options_of(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def test_the_commands_are_the_documented_ones() -> None:
    assert {" ".join(path) for path in LEAVES} == FORMATS.keys() | WITHOUT_DATA


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_says_what_it_does(run: Run, path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: {' '.join(('nodeagent', *path))} ")
    assert ALL[path].get_short_help_str()


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    assert [option.opts for option in options_of(LEAVES[path]) if not (option.help or option.hidden)] == []


@pytest.mark.parametrize("path", FORMATS)
def test_every_command_with_data_writes_the_same_formats(path: str) -> None:
    command = LEAVES[tuple(path.split())]
    (output,) = [option for option in options_of(command) if "--output" in option.opts]
    assert isinstance(output.type, click.Choice)
    assert (list(output.type.choices), output.default) == (FORMATS[path], FORMATS[path][0])


def test_the_documented_formats_are_those_that_there_are() -> None:
    rows = [line.split("|")[1:3] for line in CLI_DOC.read_text().split("## Output")[1].splitlines() if line[:2] == "| "]
    cells = [(re.findall(r"`([a-z ]+)`", names), re.findall(r"`([a-z]+)`", formats)) for names, formats in rows]
    told = {name: formats for names, formats in cells for name in names}
    assert {name: formats[: len(FORMATS[name])] for name, formats in told.items() if name in FORMATS} == FORMATS


def test_every_option_of_run_is_documented() -> None:
    names = [name for option in options_of(LEAVES[("run",)]) if not option.hidden for name in option.opts]
    assert [name for name in names if f"`{name}" not in CLI_DOC.read_text()] == []


@pytest.mark.parametrize("path", ["get", "bpf progs", "bpf maps", "bpf map dump"])
def test_tables_with_headers_can_leave_them_out(path: str) -> None:
    assert any("--no-headers" in option.opts for option in options_of(LEAVES[tuple(path.split())]))


def test_the_overview_lists_every_command_with_its_purpose(run: Run) -> None:
    overview = " ".join(run("--help").stdout.split())
    assert [name for name, entry in COMMANDS.items() if f"{name} {entry[2]}" not in overview] == []


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "status --nonsense", "get things", "get services -ox", "bypass maybe", "run"],
)
def test_wrong_usage_is_2_and_says_where_help_is(run: Run, arguments: str) -> None:
    result = run(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--help" in result.stderr
    assert "Error: " in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_data_on_stdout(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_NODEAGENT_COMPLETE={shell}_complete" in result.stdout
