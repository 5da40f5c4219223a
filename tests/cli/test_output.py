"""Tables, cells and colour."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from nodeagent.cli.output import Column, cell, message, print_line, print_table

COLUMNS = (Column("NAME", "name"), Column("STATE", "state"), Column("MORE", "more", wide=True))
ROWS = [{"name": "a" * 200, "state": "failed", "more": "x"}, {"name": "b"}]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stdout is from now on a terminal of 40 columns that knows colour (a fixture's would be captured away)."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, "-"),
        ("", "-"),
        (0, "0"),
        ([], "-"),
        (["a", 1, True], "a,1,yes"),
        ({"a": 1, "b": ["x", "y"]}, "a=1,b=x,y"),
    ],
)
def test_a_cell_is_never_empty(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(("wide", "titles"), [(False, ["NAME", "STATE"]), (True, ["NAME", "STATE", "MORE"])])
def test_wide_columns_are_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], wide: bool, titles: list[str]
) -> None:
    print_table(COLUMNS, ROWS, wide=wide, headers=True)
    assert capsys.readouterr().out.splitlines()[0].split() == titles


def test_without_a_terminal_a_row_is_one_line_of_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS, wide=False, headers=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["a" * 200, "failed"], ["b", "-"]]


def test_on_a_terminal_states_have_colour_and_long_cells_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    print_table(COLUMNS, ROWS, wide=False, headers=False)
    assert "\x1b[31mfailed" in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) > len(ROWS)


def test_a_long_line_is_left_to_the_terminal_so_that_it_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    print_line("    fix: " + "mount " * 20)
    assert terminal.getvalue().count("\n") == 1


def test_a_locale_without_our_marks_replaces_them() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    argv = [sys.executable, "-m", "nodeagent", "doctor", "--bpffs", "/nowhere"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "? no bpffs is mounted above /nowhere" in done.stdout


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    print_line("denied", "denied")
    assert "\x1b[31m" not in terminal.getvalue()
    assert "denied" in terminal.getvalue()


def test_markup_in_data_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("GET /[red]x[/red]")
    assert capsys.readouterr().out == "GET /[red]x[/red]\n"


def test_messages_are_not_data(capsys: pytest.CaptureFixture[str]) -> None:
    message("beware")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "beware\n")
