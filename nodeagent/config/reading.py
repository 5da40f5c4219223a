"""From validated manifests to typed resources.  Nothing here checks shape: the schemas did.

Names and addresses that thousands of pods and endpoints have in common are one text each in memory.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from sys import intern
from typing import Any

from nodeagent.config.filters import read_cors, read_filters, read_mirrors, read_reference
from nodeagent.config.problems import FieldPath
from nodeagent.config.read_common import creation_time, target_refs
from nodeagent.config.read_rate_limits import read_rate_limits
from nodeagent.config.read_traffic import read_traffic
from nodeagent.config.resources import (
    NOWHERE,
    BackendRef,
    Identity,
    NamespaceObject,
    NodeObject,
    ParentRef,
    Placement,
    PodObject,
    PolicyObject,
    Readiness,
    Resource,
    RouteMatch,
    RouteObject,
    RouteRule,
    ServiceObject,
    ServicePort,
    SliceObject,
    TrafficDistribution,
)
from nodeagent.config.rule_faults import backend_fault, clear_part, is_vague, rule_fault
from nodeagent.config.sessions import read_retry, read_session
from nodeagent.core.addresses import canonical
from nodeagent.core.durations import milliseconds
from nodeagent.core.hosts import parse_host
from nodeagent.core.model import (
    Action,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    Source,
    ValueMatch,
)
from nodeagent.core.paths import normalize
from nodeagent.core.route_timeouts import RouteTimeouts

Value = dict[str, Any]

DATAPLANE_LABEL = "mesh.nodeagent.dev/dataplane"
NETNS_ANNOTATION = "mesh.nodeagent.dev/netns"
SERVICE_LABEL = "kubernetes.io/service-name"
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
ZONE_LABEL = "topology.kubernetes.io/zone"
DEFAULT_NAMESPACE = "default"
_NODE_ADDRESSES = ("InternalIP", "ExternalIP")

_APP_PROTOCOLS = {
    "http": Protocol.HTTP1,
    "kubernetes.io/ws": Protocol.HTTP1,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.HTTP2,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "kubernetes.io/wss": Protocol.TLS,
}
_DISTRIBUTIONS = {
    **{one.value: one for one in TrafficDistribution},
    "PreferClose": TrafficDistribution.SAME_ZONE,  # the name before KEP-3015
}
_PORT_NAMES = {
    "http": Protocol.HTTP1,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.HTTP2,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "tcp": Protocol.OPAQUE,
}


def read_resource(identity: Identity, value: Value) -> Resource:
    """Build the resource of a manifest that passed its schema and nodeagent.config.acceptance."""
    return _READERS[identity.kind](identity, value)


def port_protocol(app_protocol: str | None, name: str) -> Protocol:
    """appProtocol decides when given; else the port's name, whole or up to its first dash; else opaque bytes."""
    if app_protocol:
        return _APP_PROTOCOLS.get(app_protocol.lower(), Protocol.OPAQUE)
    return _PORT_NAMES.get(name.partition("-")[0], Protocol.OPAQUE)


def is_service(group: str | None, kind: str) -> bool:
    return group in ("", "core") and kind == "Service"


def workload_name(metadata: Value) -> str:
    """The controller's name: a ReplicaSet of a Deployment counts as the Deployment; a bare pod as itself."""
    owners = metadata.get("ownerReferences") or []
    owner = next((owner for owner in owners if owner.get("controller")), owners[0] if owners else None)
    if owner is None:
        return str(metadata["name"])
    suffix = _texts(metadata, "labels").get("pod-template-hash")
    name = str(owner["name"])
    return name.removesuffix(f"-{suffix}") if owner["kind"] == "ReplicaSet" and suffix else name


def _texts(metadata: Value, name: str) -> dict[str, str]:
    """Labels or annotations; null is the empty text."""
    return {key: value or "" for key, value in (metadata.get(name) or {}).items()}


def _namespace(identity: Identity, value: Value) -> NamespaceObject:
    metadata = value["metadata"]
    return NamespaceObject(identity.name, _texts(metadata, "labels"), _texts(metadata, "annotations"))


def _node(identity: Identity, value: Value) -> NodeObject:
    metadata, status = value["metadata"], value.get("status") or {}
    ready = all(one.get("status") == "True" for one in status.get("conditions") or [] if one.get("type") == "Ready")
    zone = _texts(metadata, "labels").get(ZONE_LABEL, "")
    listed = (one.get("address") for one in status.get("addresses") or [] if one.get("type") in _NODE_ADDRESSES)
    spec = value.get("spec") or {}
    ranges = spec.get("podCIDRs") or [spec.get("podCIDR")]
    return NodeObject(
        identity.name, zone, ready, metadata.get("uid") or "", _addresses(listed), _addresses(map(_first_of, ranges))
    )


def _addresses(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Each once, canonical; what is none is left out: host names are kept beside addresses."""
    return tuple(dict.fromkeys(found for text in texts if text and (found := _canonical(text))))


def _canonical(text: str) -> str:
    try:
        return canonical(text)
    except ValueError:
        return ""


def _first_of(cidr: str | None) -> str:
    try:
        return str(ipaddress.ip_network(cidr or "")[1])
    except (ValueError, IndexError):
        return ""


def _pod(identity: Identity, value: Value) -> PodObject:
    metadata, spec, status = value["metadata"], value.get("spec") or {}, value.get("status") or {}
    return PodObject(
        namespace=intern(identity.namespace),
        name=identity.name,
        service_account=intern(spec.get("serviceAccountName") or "default"),
        workload=intern(workload_name(metadata)),
        addresses=_pod_addresses(status),
        dataplane=_texts(metadata, "labels").get(DATAPLANE_LABEL, ""),
        netns=_texts(metadata, "annotations").get(NETNS_ANNOTATION, ""),
        node=intern(spec.get("nodeName") or ""),
        host_network=bool(spec.get("hostNetwork")),
        uid=metadata.get("uid") or "",
    )


def _pod_addresses(status: Value) -> tuple[str, ...]:
    if status.get("phase") in ("Succeeded", "Failed"):
        return ()  # the address may belong to another pod by now
    listed = [item["ip"] for item in status.get("podIPs") or []]
    first = [status["podIP"]] if status.get("podIP") else []
    return tuple(dict.fromkeys(intern(canonical(address)) for address in (*first, *listed)))


def _service(identity: Identity, value: Value) -> ServiceObject:
    spec = value["spec"]
    given = [*(spec.get("clusterIPs") or []), spec.get("clusterIP") or ""]
    addresses = _addresses(address for address in given if address != "None")
    if spec.get("type") == "ExternalName":
        addresses = ()
    doors = _doors(value) if addresses else ()
    if _texts(value["metadata"], "labels").get(OTHER_PROXY_LABEL):  # kube-proxy leaves it to another, and so do we
        addresses, doors = (), (*addresses, *doors)
    return ServiceObject(
        identity.namespace,
        identity.name,
        addresses,
        tuple(_service_port(port) for port in spec.get("ports") or [] if (port.get("protocol") or "TCP") == "TCP"),
        "None" in given,
        _DISTRIBUTIONS[spec.get("trafficDistribution") or ""],
        tuple(address for address in doors if address not in addresses),
        spec.get("internalTrafficPolicy") == "Local",
        spec.get("sessionAffinity") == "ClientIP",
    )


def _doors(value: Value) -> tuple[str, ...]:
    """Of a Service: addresses that kube-proxy, or a load balancer before it, leads on from."""
    balancer = (value.get("status") or {}).get("loadBalancer") or {}
    return _addresses(
        (*(value["spec"].get("externalIPs") or ()), *(one.get("ip") for one in balancer.get("ingress") or ()))
    )


def _service_port(port: Value) -> ServicePort:
    name = port.get("name") or ""
    return ServicePort(name, port["port"], port_protocol(port.get("appProtocol"), name), port.get("nodePort") or 0)


def _slice(identity: Identity, value: Value) -> SliceObject:
    ports = {
        port.get("name") or "": port["port"]
        for port in value.get("ports") or []
        if (port.get("protocol") or "TCP") == "TCP" and port.get("port")
    }
    return SliceObject(
        namespace=identity.namespace,
        name=identity.name,
        service=_texts(value["metadata"], "labels").get(SERVICE_LABEL, ""),
        addresses=_endpoint_addresses(value) if value["addressType"] != "FQDN" else {},
        ports=ports,
        places=_places(value),
    )


def _places(value: Value) -> dict[str, Placement]:
    """Where endpoints are, by canonical address; most configurations do not say it."""
    found: dict[str, Placement] = {}
    for endpoint in value.get("endpoints") or [] if value["addressType"] != "FQDN" else ():
        place = _placement(endpoint)
        if place != NOWHERE:
            address = intern(canonical(endpoint["addresses"][0]))
            found[address] = max(place, found.get(address, place))
    return found


def _placement(endpoint: Value) -> Placement:
    hints = endpoint.get("hints") or {}
    zones, nodes = _hinted(hints, "forZones"), _hinted(hints, "forNodes")
    return Placement(endpoint.get("zone") or "", endpoint.get("nodeName") or "", zones, nodes)


def _hinted(hints: Value, name: str) -> tuple[str, ...]:
    return tuple(sorted(one.get("name") or "" for one in hints.get(name) or ()))


def _endpoint_addresses(value: Value) -> dict[str, Readiness]:
    found: dict[str, Readiness] = {}
    for endpoint in value.get("endpoints") or []:
        address, readiness = intern(canonical(endpoint["addresses"][0])), _readiness(endpoint.get("conditions") or {})
        found[address] = max(readiness, found.get(address, readiness))
    return found


def _readiness(conditions: Value) -> Readiness:
    """Without a value an endpoint is ready, serving, and not terminating (EndpointSlice API)."""
    if conditions.get("ready") is not False:
        return Readiness.READY
    leaving = conditions.get("terminating") is True and conditions.get("serving") is not False
    return Readiness.LEAVING if leaving else Readiness.NOT_READY


def _route(identity: Identity, value: Value) -> RouteObject:
    spec = value["spec"]
    parents = enumerate(spec.get("parentRefs") or [])
    return RouteObject(
        namespace=identity.namespace,
        name=identity.name,
        created=creation_time(value["metadata"]),
        hostnames=tuple(spec.get("hostnames") or ()),
        parents=tuple(_parent(index, ref, identity.namespace) for index, ref in parents if _is_service_parent(ref)),
        rules=tuple(_route_rule(rule, index, identity) for index, rule in enumerate(_route_rules(spec))),
    )


def _route_rules(spec: Value) -> list[Value]:
    return spec.get("rules") or [{}]  # a route without rules matches everything, as the API server defaults it


def _is_service_parent(ref: Value) -> bool:
    return is_service(ref.get("group", "gateway.networking.k8s.io"), ref.get("kind") or "Gateway")


def _parent(index: int, ref: Value, namespace: str) -> ParentRef:
    return ParentRef(
        index, ref.get("namespace") or namespace, ref["name"], ref.get("port") or 0, ref.get("sectionName") or ""
    )


def _route_rule(rule: Value, index: int, identity: Identity) -> RouteRule:
    matches = tuple(_route_match(match) for match in rule.get("matches") or [{}])
    section = rule.get("name") or ""
    name, fault = section or str(index), rule_fault(rule)
    if fault is not None:
        return RouteRule(name, matches, (), section=section, fault=fault)
    backends = enumerate(rule.get("backendRefs") or [])
    return RouteRule(
        name=name,
        matches=matches,
        backends=tuple(_backend(ref, number, identity.namespace, matches[0].path) for number, ref in backends),
        filters=read_filters(rule.get("filters") or (), matches[0].path),
        timeouts=_timeouts(rule.get("timeouts") or {}),
        section=section,
        retry=read_retry(rule.get("retry")),
        session=read_session(rule.get("sessionPersistence"), f"{identity.key} {name}"),
        mirrors=read_mirrors(rule.get("filters") or (), (), identity.namespace),
        cors=read_cors(rule.get("filters") or ()),
    )


def _timeouts(value: Value) -> RouteTimeouts | None:
    """0s means none, whatever a policy says; a field that is not given leaves it to the policy."""
    texts = (value.get("request"), value.get("backendRequest"))
    request, backend = (milliseconds(text) if text else None for text in texts)
    return RouteTimeouts(request, backend) if (request, backend) != (None, None) else None


def _backend(ref: Value, number: int, namespace: str, prefix: str) -> BackendRef:
    at: FieldPath = ("backendRefs", number)
    weight, filters, fault = ref.get("weight"), ref.get("filters") or (), backend_fault(ref, at)
    read = replace(read_reference(ref, namespace), weight=1 if weight is None else weight, fault=fault)
    if fault is not None:
        return read
    mirrors = read_mirrors(filters, at, namespace)
    return replace(read, filters=read_filters(filters, prefix), mirrors=mirrors, cors=read_cors(filters))


def _route_match(given: Value) -> RouteMatch:
    match = clear_part(given)
    path = match.get("path") or {}
    kind = PathKind(path.get("type") or "PathPrefix")
    return RouteMatch(
        path_kind=kind,
        path=normal_path(kind, path.get("value") or "/"),
        method=match.get("method") or "",
        headers=_first_of_each(match.get("headers") or [], lower=True),
        query=_first_of_each(match.get("queryParams") or [], lower=False),
        vague=is_vague(given),
    )


def _first_of_each(matches: list[Value], *, lower: bool) -> tuple[ValueMatch, ...]:
    """Of header matches whose names differ in case only, the first counts (Gateway API)."""
    found: dict[str, ValueMatch] = {}
    for match in matches:
        one = _value_match(match, lower=lower)
        found.setdefault(one.name, one)
    return tuple(found.values())


def _value_match(match: Value, *, lower: bool) -> ValueMatch:
    name = match["name"].lower() if lower else match["name"]
    return ValueMatch(name, match["value"], match.get("type") == "RegularExpression")


def normal_path(kind: PathKind, value: str) -> str:
    """The form in which requests are judged; raises PathError for a plain path that has none."""
    if kind is PathKind.REGEX:
        return value
    value = normalize(value)
    return value.rstrip("/") or "/" if kind is PathKind.PREFIX else value


def _policy(identity: Identity, value: Value) -> PolicyObject:
    spec = value["spec"]
    action = Action(spec.get("action") or "ALLOW")
    policy = Policy(
        name=identity.key,
        action=action,
        level=EnforcementLevel(spec["enforcementLevel"]),
        rules=tuple(_policy_rule(rule) for rule in spec.get("rules") or []),
        dry_run=spec.get("mode") == "DryRun" and action is not Action.AUDIT,  # which counts and refuses nothing anyway
    )
    return PolicyObject(identity.namespace, identity.name, target_refs(spec), policy)


def _policy_rule(rule: Value) -> PolicyRule:
    http = rule.get("http")
    return PolicyRule(
        sources=tuple(_source(source) for source in rule.get("sources") or []),
        ports=tuple((rule.get("networkAttributes") or {}).get("ports") or ()),
        http=(_operation(http),) if http else (),
    )


def _source(source: Value) -> Source:
    account = source.get("serviceAccount")
    if account:
        return Source(service_accounts=(f"{account['namespace']}/{account['name']}",))
    if source.get("namespace"):
        return Source(namespaces=(source["namespace"],))
    return Source(cidrs=(source["cidr"],))


def _operation(http: Value) -> HttpOperation:
    paths = ((PathKind(path["type"]), path["value"]) for path in http.get("paths") or [])
    return HttpOperation(
        methods=tuple(http.get("methods") or ()),
        paths=tuple((kind, normal_path(kind, value)) for kind, value in paths),
        hosts=tuple(_host(host) for host in http.get("hosts") or ()),
        headers=tuple(_value_match(match, lower=True) for match in http.get("headers") or []),
    )


def _host(pattern: str) -> str:
    """As requests spell it: `[::1]`, however many zeros the manifest writes."""
    return parse_host(pattern) if pattern.startswith("[") else pattern


_READERS: Mapping[str, Callable[[Identity, Value], Resource]] = {
    "Namespace": _namespace,
    "Node": _node,
    "Pod": _pod,
    "Service": _service,
    "EndpointSlice": _slice,
    "HTTPRoute": _route,
    "AuthorizationPolicy": _policy,
    "TrafficPolicy": read_traffic,
    "RateLimitPolicy": read_rate_limits,
}
