"""`python -m bench.kubernetes`: what the agent costs with a big cluster on a real API server.

The API server is given (`--kubeconfig`, with a token), and filled beforehand with the objects of `bench.cluster`, also
with TrafficPolicies t<n> and RateLimitPolicies l<n>.  Printed and kept in bench/results: seconds from the agent's start
to its first configuration in force, the peak of memory of all its processes (by their cgroup), processor time while
nothing changes and at one change per second, per kind, and how long these changes took by the agent's own figure.
Processor time is what to trust where others work on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from bench import cluster, report
from bench.errors import BenchError, ChildFailedError
from tests.testbed import manifests
from tests.testbed.manifests import Document

GOAL_START, GOAL_PEAK_MB, GOAL_CPU, GOAL_CHANGE = 10.0, 200.0, 0.01, 0.1
WAIT_SECONDS = 120.0
BPFFS = "/sys/fs/bpf/bench-kube"
METRICS = "127.0.0.1:15998"
ROOTS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpuacct")
SERVICE = {"group": "", "kind": "Service"}


def authorization(number: int, turn: int) -> Document:
    found = cluster.policy(number)
    found["spec"]["rules"][0]["sources"][0]["serviceAccount"]["name"] = f"nobody{turn}"
    return found


def traffic(number: int, turn: int) -> Document:
    target = {**SERVICE, "name": f"s{number}"}
    return manifests.traffic_policy(cluster.namespace(number), f"t{number}", target, timeouts={"request": f"{turn}s"})


def limit(number: int, turn: int) -> Document:
    target, rules = {**SERVICE, "name": f"s{number}"}, [{"name": "a", "limit": {"requests": turn}}]
    return manifests.rate_limit_policy(cluster.namespace(number), f"l{number}", target, http={"rules": rules})


GATEWAY, MESH = "gateway.networking.k8s.io/v1/{}/httproutes", "mesh.nodeagent.dev/v1alpha1/{}/"
KINDS: dict[str, tuple[str, Callable[[int, int], Document], int]] = {
    "HTTPRoute": (GATEWAY, lambda number, turn: cluster.route(number, turn % 100), 0),
    "AuthorizationPolicy": (
        MESH + "authorizationpolicies",
        authorization,
        0,
    ),
    "TrafficPolicy": (MESH + "trafficpolicies", traffic, 6),
    "RateLimitPolicy": (MESH + "ratelimitpolicies", limit, 8),
    "EndpointSlice": (
        "discovery.k8s.io/v1/{}/endpointslices",
        lambda number, turn: cluster.endpoint_slice(number, turn % cluster.EACH + 1),
        0,
    ),
}
"""Path, the object in a turn, and the last digit of the numbers that have one."""


class Api:
    """Of the kubeconfig's only server, with its user's token."""

    def __init__(self, kubeconfig: Path) -> None:
        found = yaml.safe_load(kubeconfig.read_text())
        self._server = found["clusters"][0]["cluster"]["server"]
        self._token = found["users"][0]["user"]["token"]
        self._tls = ssl._create_unverified_context()

    def patch(self, path: str, value: Document) -> None:
        group, version, namespace, plural = path.split("/")
        where = f"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{value['metadata']['name']}"
        fields = {key: one for key, one in value.items() if key in ("spec", "endpoints")}
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/merge-patch+json"}
        body = json.dumps(fields).encode()
        request = urllib.request.Request(self._server + where, body, headers, method="PATCH")
        with urllib.request.urlopen(request, context=self._tls, timeout=30):
            pass


@dataclass
class Box:
    """Control groups of the agent and all its children (cgroup v1)."""

    paths: list[Path] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.paths = [root / f"nodeagent-bench-{os.getpid()}" for root in ROOTS]
        for path in self.paths:
            path.mkdir()
        return self

    def __exit__(self, *_error: object) -> None:
        for path in self.paths:
            with contextlib.suppress(OSError):
                path.rmdir()

    def enter(self) -> None:
        for path in self.paths:
            (path / "cgroup.procs").write_text("0")

    @property
    def peak_mb(self) -> float:
        return int((self.paths[0] / "memory.max_usage_in_bytes").read_text()) / 1e6

    @property
    def used_mb(self) -> float:
        return int((self.paths[0] / "memory.usage_in_bytes").read_text()) / 1e6

    @property
    def kernel_mb(self) -> float:
        """Of `used_mb` what the kernel has for them: most of it are BPF maps."""
        return int((self.paths[0] / "memory.kmem.usage_in_bytes").read_text()) / 1e6

    @property
    def processor(self) -> float:
        return int((self.paths[1] / "cpuacct.usage").read_text()) / 1e9


def metric(name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=10) as answer:
            found = re.search(rf"^nodeagent_{name} (\S+)", answer.read().decode(), re.MULTILINE)
    except (OSError, urllib.error.URLError):
        return 0.0
    return float(found[1]) if found else 0.0


@contextlib.contextmanager
def agent(kubeconfig: Path, box: Box) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as place, tempfile.NamedTemporaryFile() as log:
        argv = [sys.executable, "-m", "nodeagent", "run", "--source", "kubernetes", "--kubeconfig", str(kubeconfig)]
        argv += ["--workers", "1", "--node-name", "n0", "--metrics-address", METRICS, "--drain", "0"]
        argv += ["--run-dir", f"{place}/run", "--state-dir", f"{place}/state", "--bpffs", BPFFS]
        cgroup = Path("/sys/fs/cgroup/unified/bench-kube")
        cgroup.mkdir(exist_ok=True)
        argv += ["--cgroup", str(cgroup)]
        process = subprocess.Popen(argv, preexec_fn=box.enter, stdout=log, stderr=log)  # noqa: PLW1509
        try:
            yield process
        except ChildFailedError as error:
            raise ChildFailedError(f"{error}: {Path(log.name).read_text()[-2000:]}") from error
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            subprocess.run([sys.executable, "-m", "nodeagent", "uninstall", "--bpffs", BPFFS], check=False)
            with contextlib.suppress(OSError):
                cgroup.rmdir()


def _until_in_force(process: subprocess.Popen[bytes], since: float) -> float:
    while not metric("config_generation_in_force"):
        if process.poll() is not None or time.monotonic() - since > WAIT_SECONDS:
            raise ChildFailedError("the agent has nothing in force")
        time.sleep(0.1)
    return time.monotonic() - since


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds.  `processor`: of all processes, for each change and the second around it; `idle` for a second."""

    kind: str
    changes: list[float]
    processor: float


def _change(api: Api, box: Box, kind: str, times: int) -> Result:
    path, made, digit = KINDS[kind]
    took, spent = [], []
    before = metric("config_generation_in_force")
    for turn in range(1, times + 1):
        number = (turn * 370) % 900 + digit
        value = made(number, turn + int(time.time()) % 1000)
        since, due = box.processor, time.monotonic() + 1
        api.patch(path.format(cluster.namespace(number)), value)
        time.sleep(max(0.0, due - time.monotonic()))
        spent.append(box.processor - since)  # what is asked of the agent is not in it
        generation = metric("config_generation_in_force")
        if generation > before:
            took.append(metric("config_apply_seconds"))
        before = generation
    return Result(kind, took, statistics.median(spent))


def measure(kubeconfig: Path, times: int) -> dict[str, Any]:
    api = Api(kubeconfig)
    with Box() as box, agent(kubeconfig, box) as process:
        start = _until_in_force(process, time.monotonic())
        print(f"start to in force: {start:.1f} s, {box.processor:.1f} s of processor", flush=True)
        time.sleep(10)
        since = box.processor
        time.sleep(10)
        idle, loaded = (box.processor - since) / 10, box.peak_mb
        print(f"idle: {idle:.2%} of a processor; peak {loaded:.0f} MB, now {box.used_mb:.0f} MB,", end=" ")
        print(f"{box.kernel_mb:.0f} of them the kernel's", flush=True)
        found = []
        for kind in KINDS:
            found.append(one := _change(api, box, kind, times))
            slow, worst = statistics.median(one.changes or [0]), max(one.changes or [0])
            print(f"{kind:20} {len(one.changes)}/{times}: median {slow * 1e3:.0f}, worst {worst * 1e3:.0f} ms;")
            print(f"{'':20} {one.processor:.2%} of a CPU at 1/s; peak {box.peak_mb:.0f} MB", flush=True)
        print(f"goals: start {GOAL_START:.0f} s, {GOAL_CHANGE * 1e3:.0f} ms, {GOAL_CPU:.0%}, {GOAL_PEAK_MB:.0f} MB")
        made = {"start": start, "idle": idle, "peak_loaded_mb": loaded, "peak_mb": box.peak_mb}
        return {**made, "kinds": [asdict(one) for one in found]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--changes", type=int, default=10, help="of each kind")
    options = parser.parse_args()
    try:
        found = measure(options.kubeconfig, options.changes)
    except BenchError as error:
        print(f"bench.kubernetes: {error}", file=sys.stderr)
        return 1
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "kubernetes.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
