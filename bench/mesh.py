"""This mesh as three of the paths: an agent with one worker, attached to the benchmark's own cgroup.

Two Services lead to the one upstream: `plain` has no L7 rule (rung 1), `routed` has a route and an L7
authorization rule (rung 3), the same two routes and the same rule that Envoy gets.  They use two ports
of the upstream, because a rule on an endpoint holds whichever Service leads to it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import children, topology, upstream

DIRECT_VIP, ROUTED_VIP = "198.19.241.1", "198.19.241.2"
BPFFS = Path("/sys/fs/bpf/nab-bench")
REPO = Path(__file__).resolve().parent.parent

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: bench}
"""

# "app: client" is enrolled; the upstream is known, as an endpoint is, but not enrolled.
POD = """
---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: bench
  labels: {{app: {name}, mesh.nodeagent.dev/dataplane: {enrolment}}}
  annotations: {{mesh.nodeagent.dev/netns: /run/netns/{netns}}}
spec:
  serviceAccountName: {name}
  containers: [{{name: {name}, image: none}}]
status: {{podIP: {address}, podIPs: [{{ip: {address}}}]}}
"""

SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: bench}}
spec:
  clusterIP: {vip}
  clusterIPs: [{vip}]
  ports: [{{name: http, port: 80, targetPort: {port}, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: bench, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints: [{{addresses: ["{address}"], conditions: {{ready: true}}}}]
"""

RULES = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed, namespace: bench}
spec:
  parentRefs: [{group: "", kind: Service, name: routed, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /v2}, headers: [{name: x-canary, value: "yes"}]}]
    backendRefs: [{name: routed, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: routed, port: 80}]
---
apiVersion: mesh.nodeagent.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: routed}]
  action: DENY
  enforcementLevel: Application
  rules: [{http: {paths: [{type: PathPrefix, value: /admin}]}}]
"""


def manifests() -> str:
    """One stream of YAML documents: everything the agent has to know."""
    client = {"name": "client", "netns": topology.ON, "address": topology.ADDRESSES[topology.ON]}
    server = {"name": "upstream", "netns": topology.UP, "address": upstream.ADDRESS}
    return "".join((
        NAMESPACE,
        POD.format(**client, enrolment="enabled"),
        POD.format(**server, enrolment="disabled"),
        SERVICE.format(name="plain", vip=DIRECT_VIP, port=upstream.DIRECT, address=upstream.ADDRESS),
        SERVICE.format(name="routed", vip=ROUTED_VIP, port=upstream.ROUTED, address=upstream.ADDRESS),
        RULES,
    ))


def _nodeagent(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nodeagent", *arguments]


def _run_command(cgroups: topology.Cgroups, directory: Path) -> list[str]:
    (directory / "manifests").mkdir()
    (directory / "manifests" / "bench.yaml").write_text(manifests())
    where = ["--cgroup", str(cgroups.mesh), "--bpffs", str(BPFFS)]
    own = ["--run-dir", str(directory / "run"), "--state-dir", str(directory / "state")]
    return _nodeagent("run", "--manifests", str(directory / "manifests"), *where, *own, "--workers", "1")


def _uninstall(cgroups: topology.Cgroups, directory: Path) -> None:
    argv = _nodeagent("uninstall", "--bpffs", str(BPFFS), "--run-dir", str(directory / "run"))
    if BPFFS.exists():
        children.output_of(children.Place("", cgroups.plain), argv, timeout=30, cwd=REPO)


@contextmanager
def serving(cgroups: topology.Cgroups, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The agent on the node for the length of a `with`, and its programs and pins gone after it.

    Its log is `agent.log` in `directory`.
    """
    _uninstall(cgroups, directory)
    place = children.Place(topology.NODE, cgroups.agent)
    argv = _run_command(cgroups, directory)
    try:
        with open(directory / "agent.log", "wb") as log, children.running(place, argv, log=log, cwd=REPO) as process:
            yield process
    finally:
        _uninstall(cgroups, directory)
