"""Checks of the cluster, from inside a pod: CRDs, rights, the taint, the clock.  Each is a question and a verdict."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from nodeagent.agent.preflight import Finding, Level
from nodeagent.config import crds
from nodeagent.core.own_taint import TAINT, is_tainted
from nodeagent.kube.api import ApiError, Reason
from nodeagent.kube.kinds import KINDS
from nodeagent.kube.telling import LEASE

SECONDS = 10.0
MAX_CLOCK_SECONDS = 5.0
# Routes of a Service (GAMMA) are in the standard channel from there on.
MIN_GATEWAY_API = (1, 1)
GATEWAY_CRD = "httproutes.gateway.networking.k8s.io"
OUR_CRDS = tuple(sorted(kind.crd_name for kind in crds.KINDS))
BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version"
CHANNEL = "gateway.networking.k8s.io/channel"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

Value = dict[str, Any]


class Api(Protocol):
    async def get(self, path: str, query: Mapping[str, str]) -> bytes: ...
    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Cluster:
    """Whom to ask, and as whom: `namespace` is the pod's, `node` the one that it runs on."""

    api: Api
    namespace: str
    node: str
    ready: bool  # the agent of this node says so


@dataclass(frozen=True, slots=True)
class Right:
    verb: str
    resource: str  # "plural.group", "plural.group/subresource"
    namespace: str = ""  # "" = everywhere
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.what}"

    @property
    def what(self) -> str:
        """All but the verb."""
        return self.resource + (f" in namespace {self.namespace}" if self.namespace else "")

    def attributes(self) -> dict[str, str]:
        whole, _, subresource = self.resource.partition("/")
        plural, _, group = whole.partition(".")
        what = {"verb": self.verb, "resource": plural, "group": group, "subresource": subresource}
        where = {"namespace": self.namespace, "name": self.name}
        return {key: value for key, value in (what | where).items() if value}


def needed(namespace: str) -> tuple[Right, ...]:
    """What daemonset/base/rbac.yaml grants."""
    read = [Right(verb, kind.resource) for kind in KINDS for verb in ("list", "watch")]
    statuses = [Right("patch", f"{kind.resource}/status") for kind in KINDS if kind.custom]
    meshnodes = [Right(verb, "meshnodes.mesh.nodeagent.dev") for verb in ("get", "list", "watch", "create")]
    statuses.append(Right("patch", "meshnodes.mesh.nodeagent.dev/status"))
    written = [Right("patch", "nodes"), *(Right(verb, "events") for verb in ("get", "create", "patch"))]
    own = [Right("create", "leases.coordination.k8s.io", namespace)]
    own += [Right(verb, "leases.coordination.k8s.io", namespace, LEASE) for verb in ("get", "update")]
    own += [Right(verb, "daemonsets.apps", namespace, "nodeagent") for verb in ("list", "watch")]
    return (*read, *statuses, *meshnodes, *written, *own)


def in_pod(environment: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in environment


def pod_checks(environment: Mapping[str, str], ready: bool) -> list[Finding]:
    """As the agent's pod, whose DaemonSet sets POD_NAMESPACE and NODE_NAME."""
    return asyncio.run(_as_pod(environment.get("POD_NAMESPACE", ""), environment.get("NODE_NAME", ""), ready))


async def _as_pod(namespace: str, node: str, ready: bool) -> list[Finding]:
    from nodeagent.kube.client import Client

    client = Client(None)
    try:
        return await cluster_checks(Cluster(client, namespace, node, ready))
    finally:
        await client.close()


async def cluster_checks(cluster: Cluster) -> list[Finding]:
    try:
        await cluster.api.get("/version", {})
    except ApiError as error:
        return [_unreachable(error)]
    found = [await _guarded(check, cluster) for check in CHECKS]
    return [finding for findings in found for finding in findings]


async def _guarded(check: Check, cluster: Cluster) -> list[Finding]:
    """What one question is refused does not keep the others from being asked."""
    try:
        return list(await check(cluster))
    except (ApiError, ValueError, KeyError, TypeError) as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        what = f"the API server does not say what is asked about {name}: {error}"
        return [Finding("cluster", name, Level.WARNING, what, "what this check looks for stays unknown", RIGHTS_FIX)]


def _unreachable(error: ApiError) -> Finding:
    why = "enforcement goes on with the configuration that the agent has, and changes do not arrive"
    fix = "see the reason in that line; the pod needs its service account's token and a way to the API server"
    return Finding("cluster", "API server", Level.ERROR, f"the API server does not answer: {error}", why, fix)


def _ok(check: str, what: str) -> Finding:
    return Finding("cluster", check, Level.OK, what)


# ---- CRDs ----


async def check_crds(cluster: Cluster) -> list[Finding]:
    ours = [name for name in OUR_CRDS if await _crd(cluster.api, name) is None]
    found = [gateway_finding(await _crd(cluster.api, GATEWAY_CRD))]
    if ours:
        why = "policies of these kinds cannot be made"
        found.append(Finding("cluster", "CRDs", Level.ERROR, f"not installed: {', '.join(ours)}", why, CRDS_FIX))
    else:
        found.append(_ok("CRDs", "the CRDs of mesh.nodeagent.dev are installed"))
    return found


RIGHTS_FIX = "apply the agent's manifests again, by the `kubectl apply -k` that installed it: they have its RBAC"
CRDS_FIX = "kubectl apply --server-side -k daemonset/crds"
GATEWAY_FIX = (
    "kubectl apply --server-side -f "
    "https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml"
)


async def _crd(api: Api, name: str) -> Value | None:
    try:
        found: Value = json.loads(await api.get(f"{CRD_PATH}/{name}", {}))
    except ApiError as error:
        if error.failure.reason is Reason.MISSING:
            return None
        raise
    return found


def gateway_finding(crd: Value | None) -> Finding:
    if crd is None:
        why = "without HTTPRoute there are no routes; policies apply all the same"
        return Finding("cluster", "Gateway API", Level.WARNING, "Gateway API is not installed", why, GATEWAY_FIX)
    annotations = crd["metadata"].get("annotations") or {}
    version, channel = annotations.get(BUNDLE_VERSION, "unknown"), annotations.get(CHANNEL, "unknown")
    served = [one["name"] for one in crd["spec"]["versions"] if one["served"]]
    what = f"Gateway API {version}, channel {channel}"
    numbers = re.match(r"v(\d+)\.(\d+)", version)
    if "v1" not in served or (numbers and (int(numbers[1]), int(numbers[2])) < MIN_GATEWAY_API):
        why = "routes of a Service need HTTPRoute v1 as of Gateway API 1.1"
        return Finding("cluster", "Gateway API", Level.ERROR, f"{what} is too old", why, GATEWAY_FIX)
    return _ok("Gateway API", what)


# ---- rights ----


async def check_rights(cluster: Cluster) -> list[Finding]:
    rights = needed(cluster.namespace)
    granted = await asyncio.gather(*(_may(cluster.api, right) for right in rights))
    missing = [right for right, yes in zip(rights, granted, strict=True) if not yes]
    if not missing:
        return [_ok("rights", f"all {len(rights)} rights that are needed are granted")]
    why = "what cannot be read is not in force, and what cannot be written is not seen by kubectl"
    return [Finding("cluster", "rights", Level.ERROR, f"may not: {'; '.join(listed(missing))}", why, RIGHTS_FIX)]


def listed(rights: Iterable[Right]) -> list[str]:
    """One text for what is alike but for the verb: "list, watch pods"."""
    verbs: dict[str, list[str]] = {}
    for right in rights:
        verbs.setdefault(right.what, []).append(right.verb)
    return [f"{', '.join(found)} {what}" for what, found in verbs.items()]


async def _may(api: Api, right: Right) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right.attributes()},
    }
    answer = json.loads(await api.send("POST", REVIEW_PATH, body, SECONDS))
    return bool(answer["status"]["allowed"])


# ---- node ----


async def check_taint(cluster: Cluster) -> list[Finding]:
    node = json.loads(await cluster.api.get(f"/api/v1/nodes/{cluster.node}", {}))
    if not is_tainted(node):
        return [_ok("taint", f"node {cluster.node} has no taint {TAINT}")]
    what = f"node {cluster.node} has the taint {TAINT}"
    if not cluster.ready:
        return [Finding("cluster", "taint", Level.WARNING, what, "pods wait for the agent to be ready", "see above")]
    why = "the agent is ready and takes the taint away once, at its start: pods wait for nothing"
    return [Finding("cluster", "taint", Level.ERROR, what, why, f"kubectl taint node {cluster.node} {TAINT}-")]


async def check_clock(cluster: Cluster) -> list[Finding]:
    """The API server's time is in whatever it makes; this is made for show only."""
    path = f"/api/v1/namespaces/{cluster.namespace}/events?dryRun=All"
    before = time.time()
    made = json.loads(await cluster.api.send("POST", path, _event(cluster), SECONDS))
    stamped = datetime.fromisoformat(made["metadata"]["creationTimestamp"]).timestamp()
    return [clock_finding(before, stamped, time.time())]


def clock_finding(before: float, stamped: float, after: float) -> Finding:
    """`stamped`, in whole seconds, is the API server's time at a moment between `before` and `after`."""
    ahead = max(before - (stamped + 1), stamped - after, 0.0)
    if ahead <= MAX_CLOCK_SECONDS:
        return _ok("clock", "the clock agrees with the API server's")
    why = "tokens and certificates are refused before and after their time, and times in status mislead"
    fix = "systemctl restart systemd-timesyncd or chronyd, on this node or on the API server's"
    return Finding("cluster", "clock", Level.WARNING, f"the clock is {ahead:.0f} s off the API server's", why, fix)


def _event(cluster: Cluster) -> Value:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "clock-", "namespace": cluster.namespace},
        "involvedObject": {"kind": "Pod", "namespace": cluster.namespace, "name": "nodeagent"},
        "reason": "Clock",
        "type": "Normal",
    }


Check = Callable[[Cluster], Awaitable[Iterable[Finding]]]
CHECKS: tuple[Check, ...] = (check_crds, check_rights, check_taint, check_clock)
