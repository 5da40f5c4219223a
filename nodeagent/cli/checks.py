"""Checks of one instance: hooks, neighbours, agent, workers, configuration; also with the agent dead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeagent.agent.preflight import Finding, Level
from nodeagent.cli import advice, options
from nodeagent.cli.errors import CliError, MissingError
from nodeagent.cli.instance import agent_pid, attached_hooks, dead_status, pinned_cgroup, pins
from nodeagent.kernel import cgroups, unprivileged
from nodeagent.kernel.hooks import HOOKS
from nodeagent.kernel.instance import Instance
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.loader import KernelError

STALE_SECONDS = 10.0  # a dropped connection is followed by the next one long before


@dataclass(frozen=True, slots=True)
class Place:
    """The instance that is looked at; `status` None = no agent answers."""

    run_dir: Path
    bpffs: Path
    cgroup: Path
    status: dict[str, Any] | None
    asks_cluster: bool = False  # doctor asks the API server itself

    @property
    def is_ready(self) -> bool:
        return self.status is not None and bool(self.status["agent"]["ready"])


def look(run_dir: Path, bpffs: Path, cgroup: Path | None, asks_cluster: bool) -> Place:
    """`cgroup` None: what the agent says, else the pins."""
    status = _status(run_dir)
    if cgroup is None and status is not None:
        cgroup = Path(status["instance"]["cgroup"])
    return Place(run_dir, bpffs, cgroup or pinned_cgroup(Layout(bpffs)) or cgroups.root(), status, asks_cluster)


def instance_checks(place: Place) -> list[Finding]:
    return [finding for check in CHECKS for finding in guarded(check, place)]


def guarded(check: Check, place: Place) -> list[Finding]:
    """A check that the kernel refuses is itself a finding: the others still run."""
    try:
        return list(check(place))
    except (OSError, KernelError, cgroups.NoCgroup2Error) as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        why = "what this check looks for stays unknown"
        fix = "see the reason in that line; --cgroup and --bpffs must name the instance's own"
        return [Finding("instance", name, Level.ERROR, f"check of {name} could not run: {error}", why, fix)]


def _status(run_dir: Path) -> dict[str, Any] | None:
    client = options.client(run_dir)
    try:
        return options.ask(lambda: client.get("/v1/status"))
    except CliError:
        return None


def _ok(category: str, check: str, what: str) -> Finding:
    return Finding(category, check, Level.OK, what)


# ---- kernel ----


def check_unprivileged(_place: Place) -> Iterator[Finding]:
    """Workers use maps by inherited descriptors only."""
    problem = unprivileged.probe()
    if problem:
        why = "workers run without privileges and could not take their connections' original destinations"
        fix = "boot a kernel >= 5.19, or sysctl -w kernel.unprivileged_bpf_disabled=0"
        yield Finding("kernel", "map access", Level.ERROR, f"unprivileged map access fails: {problem}", why, fix)
    else:
        yield _ok("kernel", "map access", "unprivileged processes can use maps by descriptor")


def check_neighbours(place: Place) -> Iterator[Finding]:
    instance = Instance(place.cgroup, place.bpffs)
    for conflict in instance.conflicts():
        why = "two instances would redirect each other's redirects"
        fix = "nodeagent uninstall --bpffs with that instance's directory, or run with another --cgroup"
        yield Finding("kernel", "conflict", Level.ERROR, f"another instance: {conflict}", why, fix)
    foreign = sorted({(program.name, program.hook, str(program.cgroup)) for program in instance.foreign_programs()})
    for name, hook, cgroup in foreign:
        why, fix = about_foreign(name, cgroup)
        what = f"foreign program {name or '(without a name)'} on {hook} of {cgroup}"
        yield Finding("kernel", "foreign program", Level.WARNING, what, why, fix)
    if not foreign:
        yield _ok("kernel", "foreign program", f"no foreign programs on our hooks of {place.cgroup}")


# Names of programs that answer for Services at connect(), in place of kube-proxy; the kernel keeps 15 characters.
SERVICE_PROGRAMS = {
    "cil_sock": ("Cilium", "the Helm value socketLB.hostNamespaceOnly=true"),
    "calico_connect": ("Calico", "bpfConnectTimeLoadBalancing: Disabled in its FelixConfiguration"),
}


def about_foreign(name: str, cgroup: str) -> tuple[str, str]:
    """Why it matters, and the fix."""
    for prefix, (whose, setting) in SERVICE_PROGRAMS.items():
        if name.startswith(prefix):
            why = f"{whose} answers for Services before us: then no route and no rule of a Service applies"
            return why, f"let it leave pods' sockets alone: {setting}"
    why = "both judge the same connections; whichever runs last has the last word on addresses"
    return why, f"if it is not meant to be there: bpftool cgroup show {cgroup}"


# ---- instance ----


def check_hooks(place: Place) -> Iterator[Finding]:
    try:
        attached = attached_hooks(pins(place.bpffs))
    except MissingError:
        attached = {}
    missing = [hook.name for hook in HOOKS if hook.name not in attached]
    if not missing:
        yield _ok("instance", "hooks", f"all {len(HOOKS)} hooks are attached")
    elif place.status is not None:
        why = "connections pass without a policy while the agent believes to be in charge"
        fix = "restart the agent: it attaches at start"
        yield Finding("instance", "hooks", Level.ERROR, f"not attached: {', '.join(missing)}", why, fix)
    elif attached:
        why = "the hooks that are attached still redirect, and count on those that are not"
        fix = "nodeagent run attaches all of them; nodeagent uninstall removes them"
        yield Finding("instance", "hooks", Level.ERROR, f"not attached: {', '.join(missing)}", why, fix)
    else:
        yield _ok("instance", "hooks", "nothing is attached, and no agent runs")


def check_agent(place: Place) -> Iterator[Finding]:
    if place.status is None:
        why = "nobody follows the configuration; connections that need a worker go direct or are refused"
        pid = agent_pid(place.run_dir)
        what, fix = f"no agent answers on {place.run_dir}", "nodeagent run --manifests DIR"
        if pid:
            what, fix = f"the agent with pid {pid} does not answer", f"kill {pid} and start it again; its log says more"
        yield Finding("instance", "agent", Level.ERROR, what, why, fix)
        return
    agent = place.status["agent"]
    if agent["ready"]:
        yield _ok("instance", "agent", f"the agent is ready (pid {agent['pid']})")
    else:
        why = "rules may not be in force yet"
        fix = "nodeagent status --wait; the agent's log says more"
        yield Finding("instance", "agent", Level.ERROR, f"the agent is not ready: {agent['problem']}", why, fix)


def check_bypass(place: Place) -> Iterator[Finding]:
    try:
        status = dead_status(pins(place.bpffs))
    except MissingError:
        return
    if status["instance"]["bypass"]:
        why = "every new connection goes direct and no policy applies"
        yield Finding("instance", "bypass", Level.WARNING, "bypass is on", why, "nodeagent bypass off")


def check_workers(place: Place) -> Iterator[Finding]:
    if place.status is None:
        return
    workers = place.status["workers"]
    sick = [worker for worker in workers if worker["state"] == "ready" and not worker["listeners"]]
    if not any(worker["state"] == "ready" for worker in workers):
        why = "connections that need a worker go direct or are refused"
        fix = "the agent's log says why they end"
        yield Finding("instance", "workers", Level.ERROR, "no worker is ready", why, fix)
    elif sick and place.status["pods"]["enrolled"]:
        why = "they accept no connections of any pod"
        fix = f"the broker's last error: {place.status['broker']['last_error'] or 'none'}; restart the agent"
        indexes = ", ".join(str(worker["index"]) for worker in sick)
        yield Finding("instance", "workers", Level.ERROR, f"workers without listeners: {indexes}", why, fix)
    else:
        yield _ok("instance", "workers", f"workers alive: {len(workers)}")
    deaths = place.status["worker_deaths"]
    if deaths:
        fix = "look for 'worker' in the agent's log"
        why = "each death resets the connections that worker had"
        yield Finding("instance", "worker deaths", Level.WARNING, f"{deaths} workers died since the start", why, fix)


# ---- configuration ----


def check_configuration(place: Place) -> Iterator[Finding]:
    if place.status is None:
        return
    config = place.status["config"]
    for one in _complaints(config):
        if one["level"] == "error":
            yield Finding("configuration", "objects", Level.ERROR, one["text"], *advice.on_error(one["reason"]))
        else:
            yield Finding("configuration", "references", Level.WARNING, one["text"], *advice.on_warning(one["reason"]))
    for pod, problem in sorted(place.status["pods"]["failed"].items()):
        why = "its connections are not in the mesh: no policy applies to them"
        fix = "docs/enrolment.md; an annotation mesh.nodeagent.dev/netns must name a namespace of `ip netns list`"
        yield Finding("configuration", "pods", Level.ERROR, f"pod {pod}: {problem}", why, fix)
    if not config["errors"]:
        yield _ok("configuration", "objects", "every object is in force as written")
    yield _ok("configuration", "udp", "note: UDP, and so QUIC (HTTP/3), is counted but passes untouched")


def _complaints(config: dict[str, Any]) -> list[dict[str, str]]:
    """An older agent gives no reasons."""
    levels = (("error", config["errors"]), ("warning", config.get("warnings", [])))
    without = [{"level": level, "reason": "", "text": text} for level, texts in levels for text in texts]
    found: list[dict[str, str]] = config.get("complaints", without)
    return found


def check_source(place: Place) -> Iterator[Finding]:
    """The API server; of a directory there is nothing to say."""
    config = place.status["config"] if place.status else {}
    kinds = config.get("kinds", [])
    for kind in kinds:
        if kind["state"] == "absent" and not place.asks_cluster:
            group = kind["message"].split(" ", 1)[0].partition(".")[2]
            fix = f"install the CRDs of {group}, if such objects are meant to be used"
            why = "a manifest of this kind cannot even be applied"
            yield Finding("configuration", "source", Level.WARNING, kind["message"], why, fix)
        elif kind["state"] == "forbidden":
            why = f"changes of {kind['kind']} objects are not seen"
            fix = "kubectl apply the agent's RBAC again; `kubectl auth can-i --list --as` its service account shows it"
            yield Finding("configuration", "source", Level.ERROR, kind["message"], why, fix)
    if config.get("stale_s", 0) > STALE_SECONDS:
        what = f"{config['source']}: not followed for {config['stale_s']:.0f} s: {config['source_problem']}"
        why = "what was last known is in force; changes since then are not"
        fix = "see why the API server cannot be reached from this node; nothing has to be done here once it can"
        yield Finding("configuration", "source", Level.ERROR, what, why, fix)
    elif kinds:
        yield _ok("configuration", "source", f"{config['source']} is followed")


Check = Callable[[Place], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    check_unprivileged,
    check_neighbours,
    check_hooks,
    check_agent,
    check_bypass,
    check_workers,
    check_source,
    check_configuration,
)
