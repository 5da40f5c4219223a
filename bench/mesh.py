"""This mesh as three of the paths: an agent with one worker, attached to the benchmark's own cgroup.

Two Services lead to the one upstream: `plain` has no L7 rule (rung 1), `routed` has a route and an L7
authorization rule (rung 3), the same two routes and the same rule that Envoy gets.  A third, `policied`, has
both and a TrafficPolicy and a RateLimitPolicy, all far from refusing anything.  Each uses a port of its own
of the upstream, because a rule on an endpoint holds whichever Service leads to it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import children, topology, upstream

DIRECT_VIP, ROUTED_VIP, POLICIED_VIP = "198.19.241.1", "198.19.241.2", "198.19.241.3"
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
metadata: {{name: {name}, namespace: bench}}
spec:
  parentRefs: [{{group: "", kind: Service, name: {name}, port: 80}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /v2}}, headers: [{{name: x-canary, value: "yes"}}]}}]
    backendRefs: [{{name: {name}, port: 80}}]
  - matches: [{{path: {{type: PathPrefix, value: /}}}}]
    backendRefs: [{{name: {name}, port: 80}}]
---
apiVersion: mesh.nodeagent.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: no-admin-{name}, namespace: bench}}
spec:
  targetRefs: [{{group: "", kind: Service, name: {name}}}]
  action: DENY
  enforcementLevel: Application
  rules: [{{http: {{paths: [{{type: PathPrefix, value: /admin}}]}}}}]
"""

# The same figures as in bench/envoy.py.
POLICIES = """
---
apiVersion: mesh.nodeagent.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: policied, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: policied}]
  timeouts: {request: 15s}
  retry: {attempts: 3, codes: [503], budget: {percent: 20, interval: 10s}}
  circuitBreaker:
    {maxConnections: 10000, maxPendingRequests: 10000, maxParallelRequests: 10000, maxParallelRetries: 10000}
  outlierDetection: {consecutive5xxErrors: 5, successRate: {minimumHosts: 5, requestVolume: 100}, interval: 10s}
---
apiVersion: mesh.nodeagent.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: policied, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: policied}]
  http:
    rules:
    - {name: total, limit: {requests: 1000000, interval: 1s}}
    - {name: each, per: ServiceAccount, limit: {requests: 1000000, interval: 1s}}
"""


def manifests() -> str:
    """One stream of YAML documents: everything the agent has to know."""
    client = {"name": "client", "netns": topology.ON, "address": topology.ADDRESSES[topology.ON]}
    server = {"name": "upstream", "netns": topology.UP, "address": upstream.ADDRESS}
    return "".join(
        (
            NAMESPACE,
            POD.format(**client, enrolment="enabled"),
            POD.format(**server, enrolment="disabled"),
            SERVICE.format(name="plain", vip=DIRECT_VIP, port=upstream.DIRECT, address=upstream.ADDRESS),
            SERVICE.format(name="routed", vip=ROUTED_VIP, port=upstream.ROUTED, address=upstream.ADDRESS),
            SERVICE.format(name="policied", vip=POLICIED_VIP, port=upstream.POLICIED, address=upstream.ADDRESS),
            RULES.format(name="routed"),
            RULES.format(name="policied"),
            POLICIES,
        )
    )


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
