"""`nodeagent observe`: requests as they pass.  Never silent for long: it says when nothing matched, and why."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from nodeagent.cli import options
from nodeagent.cli.errors import NoAgentError
from nodeagent.cli.output import cell, message, print_line, print_yaml

Record = dict[str, Any]

VERDICTS = ("allowed", "denied", "error")


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Keep showing requests until interrupted.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Without -f: at most this many, newest last.",
)
@click.option("--from", "source", multiple=True, metavar="NS[/POD]", help="Caller; repeat for several.")
@click.option("--to", multiple=True, metavar="SERVICE[.NS]", help="Destination; repeat for several.")
@click.option("--method", multiple=True, help="HTTP method; repeat for several.")
@click.option("--path", multiple=True, metavar="PREFIX", help="Path prefix.")
@click.option("--status", multiple=True, metavar="404|5+", help="5+ means 500 to 599.")
@click.option("--verdict", multiple=True, type=click.Choice(VERDICTS), help="What became of it.")
@options.output("table", "json", "yaml")
@options.run_dir
def observe(follow: bool, last: int, output: str, run_dir: Path, **filters: tuple[str, ...]) -> None:
    """Show requests through the proxy, filtered: any of one option, all of different options."""
    query = {name: ",".join(values) for name, values in filters.items() if values}
    query["follow"] = "1" if follow else "0"
    query["last"] = str(last)
    try:
        options.ask(lambda: asyncio.run(_show(run_dir, query, output)))
    except KeyboardInterrupt:
        sys.exit(0)
    if follow:
        raise NoAgentError("the agent ended, and the stream with it; `nodeagent status` says whether another one runs")


async def _show(run_dir: Path, query: dict[str, str], output: str) -> None:
    client = options.client(run_dir)
    async for record in client.stream("/v1/observe", query):
        if "notice" in record:
            message(str(record["notice"]))
            continue
        if output == "json":  # one line each, so that a stream can be read as it comes
            sys.stdout.write(json.dumps({"version": "v1", **record}) + "\n")
        elif output == "yaml":
            sys.stdout.write("---\n")
            print_yaml({"version": "v1", **record})
        else:
            print_line(line(record), record.get("verdict", ""))
        sys.stdout.flush()


def line(record: Record) -> str:
    """One request on one line."""
    parts = [
        str(record.get("time", "")),
        f"{record.get('source', '?')} -> {record.get('destination', '?')}",
        f"{record.get('method', '?')} {record.get('path', '?')}",
        f"{record.get('status', '?')}",
        f"{record.get('duration_us', 0) / 1000:.1f}ms",
        *(
            f"{name}={cell(record[name])}"
            for name in ("route", "rule", "policy", "backend", "endpoint", "reason", "would")
            if record.get(name)
        ),
    ]
    return "  ".join(parts)
