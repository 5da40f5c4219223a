"""The node that is measured: the agent in control groups of its own, and real pods with wrk between them.

The agent is a process of the node's box and not a pod: it is started as often as wanted and from this tree, while what
it does and what that costs is the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ChildFailedError
from nodeagent.agent.reporting import DEFAULT_NAMESPACE
from nodeagent.kube.telling import LEASE
from tests.cluster import paths, workloads
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.testbed.shell import CommandError

NAME = "nodeagent-bench"
PORT = 15998
ROOTS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpuacct")
PLACE = Path("/var/lib") / NAME  # the box's own
BPFFS, BYTECODE = "/sys/fs/bpf/nodeagent-bench", PLACE / "bytecode"
STOP_SECONDS = 30.0
NAMESPACE, SERVER, CLIENT, CONNECTIONS = "bench", "server", "client", 16
LEASES = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEFAULT_NAMESPACE}}
OTHER = {"holderIdentity": "another node", "leaseDurationSeconds": 86_400, "renewTime": "2000-01-01T00:00:00.000000Z"}
NGINX = """\
worker_processes 1; daemon off; pid /tmp/nginx.pid; error_log /dev/stderr;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000;
       server { listen 8080; location / { default_type text/plain; return 200 "served\\n"; } } }
"""
ENTER = 'for root in {roots}; do echo 0 >"$root/{name}/cgroup.procs"; done; exec "$@"'


@dataclass(frozen=True)
class Cost:
    """Control groups of the agent and all its children (cgroup v1), below those of its node."""

    box: str

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        for path in self._paths:
            path.mkdir(exist_ok=True)
        try:
            yield
        finally:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    path.rmdir()

    def entered(self, argv: list[str]) -> list[str]:
        """`argv` as it has to be run in the box."""
        return ["/bin/sh", "-ec", ENTER.format(roots=" ".join(map(str, ROOTS)), name=NAME), "enter", *argv]

    def agent(self) -> int | None:
        """The pid of the agent itself: its parent is not among them."""
        pids = set(map(int, (self._paths[0] / "cgroup.procs").read_text().split()))
        return next((pid for pid in pids if _parent(pid) not in pids), None)

    @property
    def peak_mb(self) -> float:
        return self._memory("memory.max_usage_in_bytes") / 1e6

    @property
    def used_mb(self) -> float:
        return self._memory("memory.usage_in_bytes") / 1e6

    @property
    def kernel_mb(self) -> float:
        """Of `used_mb` what the kernel has for them: most of it are BPF maps."""
        return self._memory("memory.kmem.usage_in_bytes") / 1e6

    @property
    def processor(self) -> float:
        """Seconds, of all processes that ever were there."""
        return int((self._paths[1] / "cpuacct.usage").read_text()) / 1e9

    @property
    def _paths(self) -> list[Path]:
        return [root / self.box / NAME for root in ROOTS]

    def _memory(self, file: str) -> int:
        return int((self._paths[0] / file).read_text())


class Agent:
    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path) -> None:
        self._process, self._address, self._log = process, address, log

    def metric(self, name: str) -> float:
        """0 while nobody answers, or nothing of that name is there."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            return 0.0
        found = re.search(rf"^nodeagent_{name} (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def until_in_force(self, seconds: float) -> float:
        """Seconds until a configuration is in force.  Raises ChildFailedError."""
        since = time.monotonic()
        while not self.metric("config_generation_in_force"):
            if self._process.poll() is not None or time.monotonic() - since > seconds:
                raise ChildFailedError(f"the agent has nothing in force: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - since


@contextlib.contextmanager
def agent(cluster: Cluster, cost: Cost) -> Iterator[Agent]:
    """With nothing remembered of an earlier run; its programs are compiled before, as by the DaemonSet."""
    node = _node(cluster)
    address = f"{node.address}:{PORT}"
    python = ["env", f"PYTHONPATH={paths.REPOSITORY}", sys.executable, "-m", "nodeagent"]
    node.box.run(["rm", "-rf", str(PLACE)])
    node.box.run(["mkdir", "-p", str(BYTECODE)])
    node.box.run([*python, "bpf", "compile", f"--into={BYTECODE}"])
    argv = [*python, "run", "--source=kubernetes", f"--kubeconfig={cluster.kubeconfig}", f"--node-name={node.name}"]
    argv += ["--workers=1", f"--metrics-address={address}", "--drain=0", f"--bytecode={BYTECODE}"]
    argv += [f"--run-dir={PLACE}/run", f"--state-dir={PLACE}/state", f"--bpffs={BPFFS}"]
    log = node.box.log(NAME)
    with log.open("wb") as file:
        process = subprocess.Popen(node.box.inside(cost.entered(argv)), stdout=file, stderr=file)
    try:
        yield Agent(process, address, log)
    finally:
        pid = cost.agent()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        process.wait(STOP_SECONDS)
        node.box.run([*python, "uninstall", f"--bpffs={BPFFS}"])
        node.box.run(["rm", "-rf", str(PLACE)])


# ---- who writes the status of all objects ----


def another_is_elected(cluster: Cluster) -> None:
    """As on all nodes of a cluster but one."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(LEASES))
    one_is_elected(cluster)
    made = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}, "spec": OTHER}
    cluster.kubectl("-n", DEFAULT_NAMESPACE, "create", "-f", "-", stdin=json.dumps(made))


def one_is_elected(cluster: Cluster) -> None:
    """And it can be only ours."""
    cluster.kubectl("-n", DEFAULT_NAMESPACE, "delete", "lease", LEASE, "--ignore-not-found")


# ---- real pods ----


def start_pods(cluster: Cluster) -> None:
    """An enrolled client and a server behind a Service with a route, so that its requests are read by a worker."""
    node = _node(cluster).name
    label = {"mesh.nodeagent.dev/dataplane": "enabled"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": label}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    command = ["sh", "-ec", 'printf "%s" "$1" >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf', "nginx", NGINX]
    ready = {"tcpSocket": {"port": workloads.PORT}, "periodSeconds": 1}
    server = workloads.pod(SERVER, node, command, readinessProbe=ready)
    service = workloads.service(SERVER)
    service["spec"]["ports"][0]["appProtocol"] = "http"
    parent = {"group": "", "kind": "Service", "name": SERVER}
    rules = [{"backendRefs": [{"name": SERVER, "port": 80}]}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": SERVER},
        "spec": {"parentRefs": [parent], "rules": rules},
    }
    workloads.apply(cluster, NAMESPACE, server, workloads.client(CLIENT, node), service, route)


@contextlib.contextmanager
def load(cluster: Cluster) -> Iterator[None]:
    """wrk from the client pod, by the Service's address.  Raises ChildFailedError when a request fails."""
    address = cluster.kubectl("-n", NAMESPACE, "get", "service", SERVER, "-o", "jsonpath={.spec.clusterIP}")
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d3600s", f"http://{address}:80/"]
    inside = [str(cluster.kubectl_program), "-n", NAMESPACE, "exec", CLIENT, "--"]
    process = subprocess.Popen([*inside, *wrk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
    finally:
        with contextlib.suppress(CommandError):  # it has ended, which its output tells
            workloads.run(cluster, NAMESPACE, CLIENT, "pkill", "-INT", "wrk")
        said, _ = process.communicate(timeout=STOP_SECONDS)
    print(f"wrk: {' '.join(line.strip() for line in said.splitlines() if 'equests' in line or 'Socket' in line)}")
    if "requests in" not in said or "Non-2xx" in said:
        raise ChildFailedError(f"wrk did not see what it should: {said}")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _node(cluster: Cluster) -> Node:
    return cluster.nodes[0]

