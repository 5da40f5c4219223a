"""`nodeagent doctor`: every failing line says what, why it matters and the exact fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from nodeagent.agent import preflight
from nodeagent.agent.preflight import Finding, Level
from nodeagent.agent.settings import DEFAULT_STATE_DIR
from nodeagent.cli import options
from nodeagent.cli.output import message, print_line, printed

MARKS = {Level.OK: ("√", "green"), Level.WARNING: ("‼", "yellow"), Level.ERROR: ("×", "red")}  # noqa: RUF001


@click.command()
@click.option("--pre", is_flag=True, help="Only what this machine must offer; prints only problems.")
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@options.output("table", "json", "yaml")
@options.run_dir
@options.bpffs
@options.bytecode
@click.option("--cgroup", type=options.PATH, default=None, help="The instance's cgroup [default: the cgroup2 root]")
@click.option("--state-dir", type=options.PATH, default=DEFAULT_STATE_DIR, hidden=True)
def doctor(pre: bool, strict: bool, output: str, run_dir: Path, bpffs: Path, cgroup: Path | None, **more: Any) -> None:
    """Check this machine and the instance.  Exit: 0 nothing failed, 1 something did."""
    findings = preflight.run_all(bpffs, more["bytecode"])
    if pre or preflight.failures(findings):
        _say_what_is_left_out(pre, findings)
    else:
        from nodeagent.cli import cluster_checks
        from nodeagent.cli.checks import instance_checks, look

        place = look(run_dir, bpffs, cgroup, cluster_checks.in_pod(os.environ))
        findings += instance_checks(place)
        if place.asks_cluster:
            findings += cluster_checks.pod_checks(os.environ, place.is_ready)
    failed = any(finding.level is Level.ERROR or (strict and finding.level is Level.WARNING) for finding in findings)
    if not printed(report(findings, success=not failed), output):
        print_findings(findings, only_problems=pre)
    sys.exit(1 if failed else 0)


def _say_what_is_left_out(pre: bool, findings: list[Finding]) -> None:
    if not pre:
        message("The instance was not looked at: what is missing here comes first.")
    elif all(finding.level is Level.OK for finding in findings):
        message("This machine has what an agent needs.")


def report(findings: Iterable[Finding], success: bool) -> dict[str, Any]:
    checks = [{**asdict(finding), "level": finding.level.value} for finding in findings]
    return {"version": "v1", "success": success, "checks": checks}


def print_findings(findings: list[Finding], only_problems: bool) -> None:
    shown = [finding for finding in findings if not (only_problems and finding.level is Level.OK)]
    for category, group in groupby(shown, key=lambda finding: finding.category):
        if not only_problems:
            print_line(category, "bold")
        for finding in group:
            for text, style in lines(finding):
                print_line(text, style)


def lines(finding: Finding) -> list[tuple[str, str]]:
    mark, style = MARKS[finding.level]
    found = [(f"{mark} {finding.what}", style)]
    if finding.why:
        found.append((f"    why: {finding.why}", ""))
    if finding.fix:
        found.append((f"    fix: {finding.fix}", ""))
    return found
