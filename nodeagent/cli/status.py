"""`nodeagent status`: does it work, what is in force; with the agent dead, what the kernel still does."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from nodeagent.cli import options
from nodeagent.cli.errors import NoAgentError
from nodeagent.cli.instance import dead_status
from nodeagent.cli.output import message, print_line, printed
from nodeagent.kernel.layout import Layout

POLL_SECONDS = 0.1
Status = dict[str, Any]


@click.command()
@click.option(
    "--wait",
    "wait_seconds",
    type=float,
    is_flag=False,
    flag_value=60.0,
    default=0.0,
    metavar="[SECONDS]",
    help="Wait until the agent is ready (60 s if no number is given).",
)
@options.output("table", "json", "yaml")
@options.run_dir
@options.bpffs
def status(wait_seconds: float, output: str, run_dir: Path, bpffs: Path) -> None:
    """Say whether the mesh works here.  Exit: 0 ready, 1 not ready, 3 no agent."""
    try:
        answer = _ask(run_dir, wait_seconds)
    except NoAgentError as error:
        message(f"Error: {error.format_message()}")
        _show({"version": "v1", "agent": {"alive": False}, **dead_status(Layout(bpffs))}, output)
        sys.exit(error.exit_code)
    _show(answer, output)
    sys.exit(0 if answer["agent"]["ready"] else 1)


def _ask(run_dir: Path, wait_seconds: float) -> Status:
    """The last answer within `wait_seconds`: a ready one at once."""
    client = options.client(run_dir)
    end = time.monotonic() + wait_seconds
    while True:
        try:
            answer = options.ask(lambda: client.get("/v1/status"))
            if answer["agent"]["ready"] or time.monotonic() > end:
                return answer
        except NoAgentError:
            if time.monotonic() > end:
                raise
        time.sleep(POLL_SECONDS)


def _show(answer: Status, output: str) -> None:
    if not printed(answer, output):
        for text, style in lines(answer):
            print_line(text, style)


def lines(answer: Status) -> list[tuple[str, str]]:
    agent = answer["agent"]
    found = [_dead_line(answer)] if not agent["alive"] else [_agent_line(agent, answer["instance"].get("node", ""))]
    found.append(_instance_line(answer["instance"]))
    if agent["alive"]:
        found += _config_lines(answer["config"])
        found += [_worker_line(worker) for worker in answer["workers"]]
        found.append(_broker_line(answer["broker"]))
        found += _pod_lines(answer["pods"])
    else:
        found += [(f"counted   {word}: {count}", "") for word, count in sorted(answer["connections"].items())]
        found += [(f"dry run   {word}: {count}", "") for word, count in sorted(answer["dry_run"].items())]
    found += [(f"note      {note}", "dim") for note in answer.get("notes", [])]
    return found


def _agent_line(agent: Status, node: str) -> tuple[str, str]:
    state = "ready" if agent["ready"] else f"not ready: {agent['problem']}"
    style = "green" if agent["ready"] else "yellow"
    where = f"node {node}, " if node else ""  # an older agent does not say
    who = f"{where}pid {agent['pid']}, version {agent['version']}, up {agent['uptime_s']:.0f} s"
    return f"agent     {state} ({who})", style


def _dead_line(answer: Status) -> tuple[str, str]:
    if answer["workers_beating"]:
        return "agent     not running; its workers are still finishing what they have", "red"
    if not answer["instance"]["hooks"]:
        return "agent     not running; hooks are detached, all traffic is direct", "red"
    return "agent     not running; connections that need it go direct or are refused, by fail mode", "red"


def _instance_line(instance: Status) -> tuple[str, str]:
    words = ["attached" if instance["attached"] else "NOT attached"]
    if instance["bypass"]:
        words.append("BYPASS is on: everything goes direct (nodeagent bypass off)")
    where = f"cgroup {instance['cgroup']}, bpffs {instance['bpffs']}" if "cgroup" in instance else instance["name"]
    where = where or f"nothing is pinned in {instance['bpffs']}; --bpffs names another place"
    style = "yellow" if instance["bypass"] else "" if instance["attached"] else "red"
    return f"hooks     {', '.join(words)} ({where})", style


def _config_lines(config: Status) -> list[tuple[str, str]]:
    waiting = "" if config["in_force"] == config["generation"] else f", generation {config['generation']} on its way"
    found = [(f"config    generation {config['in_force']} in force{waiting} ({config['source']})", "")]
    found += _source_lines(config)
    found += [(f"error     {error}", "red") for error in config["errors"]]
    warnings = config.get("warnings", [])  # an older agent says none
    return found + [(f"warning   {warning}", "yellow") for warning in warnings]


def _source_lines(config: Status) -> list[tuple[str, str]]:
    """Of an API server; an older agent, and a directory, say nothing here."""
    found = []
    if config.get("stale_s"):
        what = "the last good state from disk" if config["restored"] else "what was last known"
        text = f"source    stale for {config['stale_s']:.0f} s, {what} is in force: {config['source_problem']}"
        found.append((text, "yellow"))
    return found + [(f"source    {kind['message']}", "dim") for kind in config.get("kinds", ()) if _is_absent(kind)]


def _is_absent(kind: Status) -> bool:
    return bool(kind["state"] == "absent")


def _worker_line(worker: Status) -> tuple[str, str]:
    age = worker["heartbeat_age_s"]
    beat = f"beat {age:.1f} s ago" if age is not None else "no beat"
    text = f"worker {worker['index']}  {worker['state']} (pid {worker['pid']}, {worker['listeners']} listeners, {beat})"
    return text, "" if worker["state"] == "ready" else "yellow"


def _broker_line(broker: Status) -> tuple[str, str]:
    if not broker["alive"]:
        return "broker    dead", "red"
    errors = f", {broker['errors']} errors, last: {broker['last_error']}" if broker["errors"] else ""
    return f"broker    alive (pid {broker['pid']}{errors})", "yellow" if errors else ""


def _pod_lines(pods: Status) -> list[tuple[str, str]]:
    left_out = pods.get("host_network", [])  # an older agent says none
    also = f"; left out, with hostNetwork: {', '.join(left_out)}" if left_out else ""
    found = [(f"pods      {len(pods['enrolled'])} enrolled{also}", "")]
    return found + [(f"pod       {key}: {why}", "red") for key, why in sorted(pods["failed"].items())]
