"""rich lives here: tables and colour for people; json, yaml and names for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]

# Not a terminal: never fold or cut a line that a program will read.
WIDE = 10_000
STYLES = {
    "ok": "green",
    "enrolled": "green",
    "in force": "green",
    "allowed": "green",
    "success": "green",
    "warning": "yellow",
    "pending": "yellow",
    "error": "red",
    "failed": "red",
    "denied": "red",
    "refused": "red",
}


@dataclass(frozen=True, slots=True)
class Column:
    """`key` of the row; `wide` = only with -o wide."""

    title: str
    key: str
    wide: bool = False


def console() -> Console:
    """Colour only on a terminal without NO_COLOR (rich looks at both)."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=WIDE, color_system=None)


def cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ",".join(f"{key}={cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(cell(item) for item in value) or "-"
    return str(value) if value not in ("", None) else "-"


def print_table(columns: Sequence[Column], rows: Sequence[Row], wide: bool, headers: bool) -> None:
    shown = [column for column in columns if wide or not column.wide]
    table = Table(box=None, pad_edge=False, show_header=headers, header_style="bold")
    for column in shown:
        table.add_column(column.title, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*(_styled(cell(row.get(column.key, ""))) for column in shown))
    console().print(table)


def _styled(text: str) -> Text:
    return Text(text, style=STYLES.get(text, ""))


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_yaml(value: object) -> None:
    from nodeagent.config.yaml_documents import dump

    sys.stdout.write(dump(value))


def printed(value: object, output: str) -> bool:
    """Print `value` if `output` is a format for programs; False = the caller shows it to people."""
    if output == "json":
        print_json(value)
    elif output == "yaml":
        print_yaml(value)
    return output in ("json", "yaml")


def print_line(text: str, style: str = "") -> None:
    """One line of data for people; a long one is the terminal's to wrap, so that a command in it can be copied."""
    console().print(Text(text, style=STYLES.get(style, style)), soft_wrap=True)


def message(text: str) -> None:
    """To stderr: never part of the data."""
    sys.stderr.write(text + "\n")
