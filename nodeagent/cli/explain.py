"""`nodeagent explain`: which way one request would go, and why."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli import options
from nodeagent.cli.output import Row, print_line, printed


@click.command()
@click.option("--from", "caller", required=True, metavar="NS/POD", help="Who calls.")
@click.option("--to", required=True, metavar="SERVICE[.NS][:PORT]", help="What it dials: a service or ADDRESS:PORT.")
@click.option("-X", "--method", default="GET", show_default=True, help="HTTP method.")
@click.option("--path", default="/", show_default=True, help="Path and query.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Repeat for several.")
@options.output("table", "json", "yaml")
@options.run_dir
def explain(caller: str, to: str, method: str, path: str, headers: tuple[str, ...], output: str, run_dir: Path) -> None:
    """Say which route, backend and rule a request would meet; nothing is sent."""
    query = {"from": caller, "to": to, "method": method, "path": path, "headers": [_pair(text) for text in headers]}
    client = options.client(run_dir)
    answer = options.ask(lambda: client.post("/v1/explain", query))
    if not printed(answer, output):
        for line, style in lines(answer):
            print_line(line, style)


def _pair(text: str) -> list[str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r} is not 'NAME: VALUE'")
    return [name.strip(), value.strip()]


def lines(answer: Row) -> list[tuple[str, str]]:
    """The answer in the order in which a connection lives."""
    to = answer["to"]
    found = [(f"{answer['from']} -> {to['name']} ({to['address']}:{to['port']})", "bold")]
    found.append((f"rung      {answer['rung']}", ""))
    if answer.get("why"):
        found.append((f"why       {answer['why']}", ""))
    found += [(f"caps      {text} (of {answer['from']})", "") for text in answer.get("caps", [])]
    found += _connect_lines(answer.get("connect"))
    found += _request_lines(answer.get("request"))
    for backend in answer.get("backends", []):
        found.append((f"backend   {_backend(backend)}", ""))
        found += [(f"filter    {text} (of this backend)", "") for text in backend.get("filters", [])]
        found += [(f"timeout   {text} (of this backend)", "") for text in backend.get("timeouts", [])]
        found += [(f"treated   {text} (of this backend)", "") for text in backend.get("treatment", [])]
    found += [(f"endpoint  {endpoint}", "") for endpoint in answer.get("endpoints", [])]
    found += [(f"note      {note}", "yellow") for note in answer.get("notes", [])]
    found.append((f"verdict   {answer['verdict']}", answer["verdict"]))
    return found + _dry_run_lines(answer.get("dry_run"))


def _dry_run_lines(dry_run: Row | None) -> list[tuple[str, str]]:
    """What the verdict would be with the policies in DryRun in force."""
    if dry_run is None:
        return []
    by = f" at {dry_run['layer']} by {dry_run['policy']}" if dry_run["policy"] else ""
    why = f": {dry_run['detail']}" if dry_run["detail"] else ""
    notes = [(f"dry run   {note}", "yellow") for note in dry_run["notes"]]
    text = f"dry run   with {', '.join(dry_run['policies'])} in force: {dry_run['verdict']}{by}{why}"
    return [(text, dry_run["verdict"]), *notes]


def _connect_lines(connect: Row | None) -> list[tuple[str, str]]:
    if connect is None:
        return []
    if connect["allowed"]:
        return [(f"limited   {connect['limited']}", "")] if connect.get("limited") else []
    by = f" by {connect['policy']}" if connect["policy"] else ""
    return [(f"connect   {connect['errno']}{by}: {connect['detail']}", "red")]


def _request_lines(request: Row | None) -> list[tuple[str, str]]:
    if request is None:
        return []
    found = []
    if request.get("route"):
        found.append((f"route     {request['route']} rule {request['rule']}", ""))
    if request.get("policy"):
        found.append((f"policy    {request['policy']}", ""))
    if request.get("audits"):
        found.append((f"audited   {', '.join(request['audits'])}", "yellow"))
    found += [(f"filter    {text}", "") for text in request.get("filters", [])]
    found += [(f"timeout   {text}", "") for text in request.get("timeouts", [])]
    found += [(f"treated   {text}", "") for text in request.get("treatment", [])]
    if request.get("location"):
        found.append((f"answer    {request['status']}, location {request['location']}", ""))
    elif request["status"]:
        found.append((f"answer    {request['status']} {request['reason']}: {request['detail']}", "red"))
    return found


def _backend(backend: Row) -> str:
    outcome = (
        f"answers {backend['status']}: {backend['detail']}" if backend["status"] else ", ".join(backend["endpoints"])
    )
    return f"{backend['share']:.0%} {backend['name']} -> {outcome}"
