"""The ways from the client to the upstream, and the proof that each is what its name says."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench import children, envoy, mesh, topology, upstream
from bench.cases import DENIED, LARGE, SMALL, Case
from bench.errors import PathBrokenError

DIRECT, AGAIN, RUNG0, RUNG1, RUNG3, ENVOY = "direct", "direct-again", "rung0", "rung1", "rung3", "envoy"
NAMES = (DIRECT, RUNG0, RUNG1, AGAIN, ENVOY, RUNG3)
JUDGES = (DIRECT, AGAIN, ENVOY, RUNG3)  # where a denied request gets a 403 at all; rung 1 has no L7 rule by definition
MESH = (RUNG0, RUNG1, RUNG3)
PROXIES = (ENVOY, RUNG3)

LENGTHS = {SMALL: 45, LARGE: upstream.LARGE_BYTES}
SETTLE_SECONDS = 20.0  # until a path that starts up must work

REPO = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Way:
    """`url` has no path; `pid` is the root of the process tree that proxies, 0 when there is none.

    `policied` is the URL of the route with every policy, "" = the path has none.
    """

    name: str
    place: children.Place
    url: str
    pid: int = 0
    policied: str = ""

    @property
    def is_proxy(self) -> bool:
        return self.name in PROXIES

    def serves(self, case: Case) -> bool:
        if case.policies:
            return self.is_proxy or self.name in (DIRECT, AGAIN)
        return case.status == 200 or self.name in JUDGES

    def url_of(self, case: Case) -> str:
        return (self.policied if case.policies and self.is_proxy else self.url) + case.path


def build(names: tuple[str, ...], cgroups: topology.Cgroups, envoy_pid: int, mesh_pid: int) -> tuple[Way, ...]:
    """The named paths, in the order in which a round runs them."""
    off, off_mesh = children.Place(topology.OFF, cgroups.plain), children.Place(topology.OFF, cgroups.pods)
    on = children.Place(topology.ON, cgroups.pods)
    server = f"http://{upstream.ADDRESS}"
    every = (
        Way(DIRECT, off, f"{server}:{upstream.PLAIN}"),
        Way(RUNG0, off_mesh, f"{server}:{upstream.DIRECT}"),
        Way(RUNG1, on, f"http://{mesh.DIRECT_VIP}"),
        Way(AGAIN, off, f"{server}:{upstream.PLAIN}"),
        Way(ENVOY, off, f"http://127.0.0.1:{envoy.PORT}", envoy_pid, f"http://127.0.0.1:{envoy.POLICIED_PORT}"),
        Way(RUNG3, on, f"http://{mesh.ROUTED_VIP}", mesh_pid, f"http://{mesh.POLICIED_VIP}"),
    )
    return tuple(path for path in every if path.name in names)


def _fault(path: Way, case: Case) -> str:
    """What is wrong with one answer over this path; "" = nothing."""
    argv = [sys.executable, "-m", "bench.probe", path.url_of(case)]
    answer = json.loads(children.output_of(path.place, argv, timeout=20, cwd=REPO))
    if answer["status"] != case.status:
        return f"status {answer['status']} instead of {case.status} {answer.get('error', '')}".strip()
    if case.status == 200 and answer["length"] != LENGTHS[case.path]:
        return f"a body of {answer['length']} bytes instead of {LENGTHS[case.path]}"
    by_upstream = "x-upstream" in answer["headers"]
    if case.status == 403 and by_upstream == path.is_proxy:
        return "the upstream answered, though the proxy must" if by_upstream else "the upstream was not asked"
    return ""


def prove(path: Way, case: Case) -> None:
    """Raises PathBrokenError when the path does not answer `case` as it must within SETTLE_SECONDS."""
    _prove(path, case)
    if case.policies and path.is_proxy:
        _prove(path, replace(case, path=DENIED, status=403))


def _prove(path: Way, case: Case) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while fault := _fault(path, case):
        if time.monotonic() > deadline:
            raise PathBrokenError(f"{path.name} does not work for {case.name}: {fault}; its figure would mean nothing")
        time.sleep(0.5)
