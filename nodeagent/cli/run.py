"""`nodeagent run`: flags to Settings, prerequisites, then the agent until it is told to stop."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from nodeagent.agent import preflight
from nodeagent.agent.settings import (
    DEFAULT_METRICS_ADDRESS,
    DEFAULT_STATE_DIR,
    Settings,
    SettingsError,
    default_node_name,
    default_workers,
)
from nodeagent.cli import options
from nodeagent.cli.errors import CliError
from nodeagent.core.unclassified import Unclassified


@click.command()
@click.option(
    "--source",
    type=click.Choice(["directory", "kubernetes"]),
    default="directory",
    show_default=True,
    help="Where objects come from: --manifests, or the API server.",
)
@click.option("--manifests", type=options.PATH, default=None, help="Directory of Kubernetes manifests, watched.")
@click.option(
    "--kubeconfig",
    type=options.PATH,
    default=None,
    show_default="$KUBECONFIG, else the pod's service account",
    help="File that names the API server, with --source kubernetes.",
)
@click.option("--cgroup", type=options.PATH, default=None, help="cgroup2 directory to attach to [default: its root]")
@click.option(
    "--kubepods",
    type=options.PATH,
    default=None,
    help="The kubelet's cgroup of all pods [default: looked for in --cgroup]",
)
@click.option(
    "--unclassified",
    type=click.Choice([one.value for one in Unclassified]),
    callback=lambda _context, _option, value: Unclassified(value),
    default=Unclassified.BY_FAIL_MODE.value,
    show_default=True,
    help="What a pod's connect() gets before the agent knows the pod: direct, refuse, or as the fail modes here say.",
)
@options.bpffs
@options.run_dir
@click.option(
    "--state-dir",
    type=options.PATH,
    default=DEFAULT_STATE_DIR,
    show_default=True,
    help="Last good configuration, kept across restarts.",
)
@options.bytecode
@click.option(
    "--workers",
    type=int,
    default=default_workers,
    show_default="half of the CPUs, at most 4",
    help="Processes that carry proxied traffic.",
)
@click.option(
    "--memory",
    "memory_mib",
    type=int,
    default=None,
    show_default="the cgroup's limit, or 512",
    help="MiB to derive the workers' bounds from.",
)
@click.option("--metrics-address", default=DEFAULT_METRICS_ADDRESS, show_default=True, help="HOST:PORT of /metrics.")
@click.option("--takeover", is_flag=True, help="Replace a running agent of the same instance without a gap.")
@click.option(
    "--stand-by",
    type=options.PATH,
    default=None,
    metavar="FILE",
    help="With --takeover, as a pod beside others: the youngest pod's agent works, the others stay and wait. "
    "FILE, on a volume of the pod's own, keeps the pod's age across restarts of the container.",
)
@click.option("--keep-attached", is_flag=True, help="On SIGTERM leave the hooks in place: fail mode applies.")
@click.option(
    "--drain",
    "drain_seconds",
    type=float,
    default=10.0,
    show_default=True,
    help="Seconds that connections get to finish on a stop.",
)
@click.option(
    "--refuse-broken/--ignore-broken",
    default=True,
    show_default=True,
    help="Whether a policy that never compiled denies what it protects.",
)
@click.option(
    "--node-name", default=default_node_name, show_default="the host's name", help="This node's name in Kubernetes."
)
@click.option(
    "--daemonset",
    default="",
    metavar="NAMESPACE/NAME",
    help="The DaemonSet whose pod this is: if it is gone at SIGTERM, everything of the instance is removed.",
)
@click.option("--zone", default="", show_default="of the Node manifest", help="The zone that this node is in.")
@click.option("--allow-fault-injection", is_flag=True, help="Let TrafficPolicies delay and abort requests.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log, on stderr.",
)
def run(log_level: str, **flags: Any) -> None:
    """Run the agent of this node in the foreground, until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = _settings(**flags)
    _require_prerequisites(settings)
    from nodeagent.agent.agent import AgentError, run_agent

    try:
        run_agent(settings)
    except AgentError as error:
        raise CliError(str(error)) from error


def _settings(source: str, **flags: Any) -> Settings:
    _check_source(source, flags["manifests"], flags["kubeconfig"])
    try:
        return Settings(**flags)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


def _check_source(source: str, manifests: Path | None, kubeconfig: Path | None) -> None:
    if source == "kubernetes":
        if manifests is not None:
            raise click.UsageError("--manifests is of --source directory: objects come from one of the two")
        if kubeconfig is not None and not kubeconfig.is_file():
            raise CliError(f"--kubeconfig {kubeconfig} is not a file; name the one that `kubectl` uses")
        return
    if manifests is None:
        raise click.UsageError("Missing option '--manifests', or --source kubernetes: objects come from one of the two")
    if kubeconfig is not None:
        raise click.UsageError("--kubeconfig is of --source kubernetes")
    if not manifests.is_dir():
        raise CliError(f"--manifests {manifests} is not a directory; make it, or name the one with your manifests")


def _require_prerequisites(settings: Settings) -> None:
    failed = preflight.failures(preflight.run_all(settings.bpffs, settings.bytecode))
    if failed:
        lines = [f"{finding.what}: {finding.why}. Fix: {finding.fix}" for finding in failed]
        raise CliError("this machine cannot run the agent yet:\n  " + "\n  ".join(lines))
