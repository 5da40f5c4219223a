"""What would happen to one request, by the data path's own matcher; nothing is sent.

The answer goes the way a real request goes: enrolment, connect() (address, network policy, rung),
then, on the proxy rung, the request itself (path, authorization, route, backends with their share).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nodeagent.admin.api import BadQueryError, NotFoundError
from nodeagent.agent.rule_text import filters_text
from nodeagent.core.addresses import canonical, family
from nodeagent.core.authorization import network_verdict
from nodeagent.core.balance import shares as shares_of
from nodeagent.core.closed_caps import as_closed, closed_servers, takes_no_connection
from nodeagent.core.decide import rules_for
from nodeagent.core.dry_run import has_dry_run, put_in_force
from nodeagent.core.hosts import HostError, parse_host
from nodeagent.core.judge import Judge
from nodeagent.core.matching import Regex, first_match
from nodeagent.core.model import (
    Decision,
    Destination,
    Endpoint,
    Protocol,
    RequestHead,
    Rule,
    Rung,
    Snapshot,
    Workload,
)
from nodeagent.core.paths import PathError, normalize
from nodeagent.core.route_timeouts import described as timeouts_described
from nodeagent.core.treatment_text import caps_lines, connection_line
from nodeagent.core.treatment_text import described as treatment_described

Answer = dict[str, Any]
Value = TypeVar("Value")
_FREE = {"allowed": True, "errno": "", "policy": "", "detail": "", "limited": ""}
"""What connect() says when nothing stands in the way."""


@dataclass(frozen=True, slots=True)
class Question:
    """`caller` "namespace/pod", `to` a service or address with port (see `find_destination`), `target` path?query.

    `host` None: none was given, and `host_sent` says which one a client would send.
    """

    caller: str
    to: str
    method: str = "GET"
    target: str = "/"
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what is known about who takes part.  `servers`: see `closed_servers`."""

    question: Question
    caller: Workload
    regex: Regex
    servers: Mapping[str, str]

    def closed(self, decision: Decision, endpoints: Sequence[Endpoint]) -> Decision:
        """What becomes of it: a cap of 0 lets nothing through, whatever was decided."""
        return as_closed(decision, self.caller, endpoints, self.servers)


@dataclass(frozen=True, slots=True)
class Share:
    """What becomes of the requests that are drawn for one backend; `part` of all, 1 = every one."""

    backend: str
    part: float
    decision: Decision
    endpoints: tuple[Endpoint, ...]
    filters: tuple[str, ...] = ()
    nearby: str = ""


def parse_question(query: Mapping[str, Any]) -> Question:
    """From the JSON of the admin API; BadQueryError names what is missing or of a wrong type."""
    for name in ("from", "to"):
        if not isinstance(query.get(name), str) or not query[name]:
            raise BadQueryError(f"{name!r} is missing: say who calls and what, for example from shop/web-1 to cart:80")
    headers = query.get("headers", [])
    if not isinstance(headers, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in headers):
        raise BadQueryError("'headers' must be a list of [name, value]")
    host = next((str(value) for name, value in headers if str(name).lower() == "host"), None)
    pairs = tuple((str(name).lower(), _as_received(str(value))) for name, value in headers)
    method, target = str(query.get("method", "GET")), str(query.get("path", "/"))
    return Question(query["from"], query["to"], method, target, host, pairs)


def _as_received(value: str) -> str:
    """The bytes that a client sends, as RequestHead carries them."""
    try:
        return value.encode(errors="surrogateescape").decode("latin-1")
    except UnicodeEncodeError as error:
        raise BadQueryError(f"header value {value!r} cannot be sent: it is no text") from error


def explain(snapshot: Snapshot, enrolled: Collection[str], question: Question, regex: Regex) -> Answer:
    """`enrolled` are keys of pods whose namespaces are held now: a label alone does not enrol.

    NotFoundError for an enrolled pod of another node: what it meets there is not known here.
    """
    caller = find_caller(snapshot, question.caller)
    base: Answer = {"from": caller.key, "generation": snapshot.generation, "notes": []}
    address, port, destination = find_destination(snapshot, caller, question.to)
    base["to"] = {"name": destination.name if destination else question.to, "address": address, "port": port}
    if caller.key not in enrolled:
        if caller.is_judged_elsewhere:
            raise NotFoundError(f"{elsewhere(caller)}, whose agent alone knows what it meets: ask that one")
        return {**base, "rung": "pass", "verdict": "allowed", "why": _why_not_enrolled(caller)}
    if address in caller.addresses or _is_loopback(address):
        return {**base, "rung": "pass", "verdict": "allowed", "why": "a pod's own addresses are never touched"}
    if destination is None:
        why = f"{address}:{port} is in no Service and belongs to no pod we know: it goes direct"
        return {**base, "rung": "direct", "verdict": "allowed", "why": why}
    servers = closed_servers(snapshot.workloads[key] for key in enrolled if key in snapshot.workloads)
    asked = Asked(question, caller, regex, servers)
    found = _at_connect(asked, destination)
    if has_dry_run(destination.all_policies):
        then = _at_connect(asked, put_in_force(destination))
        tried = dict.fromkeys(policy.name for policy in destination.all_policies if policy.dry_run)
        found["dry_run"] = {"policies": list(tried), **_dry_run(found, then)}
    return {**base, "caps": caps_lines(caller), **found}


def elsewhere(pod: Workload) -> str:
    return f"{pod.key} lives on node {pod.node_id}" if pod.node_id else f"{pod.key} lives on another node"


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::", "0.0.0.0")  # noqa: S104  # compared, not bound


def _why_not_enrolled(caller: Workload) -> str:
    if caller.host_network:
        return f"{caller.key} is in the node's own network namespace (hostNetwork): such a pod is never enrolled"
    if not caller.enrolled:
        return f"{caller.key} is not enrolled; label its namespace or pod mesh.nodeagent.dev/dataplane=enabled"
    return f"{caller.key} is not enrolled yet; `nodeagent get workloads` says why"


# ---- who and where ----


def find_caller(snapshot: Snapshot, text: str) -> Workload:
    namespace, slash, name = text.partition("/")
    if not slash:
        raise BadQueryError(f"from {text!r} is not NAMESPACE/POD")
    workload = snapshot.workloads.get(text)
    if workload is None:
        here = sorted(key for key in snapshot.workloads if key.startswith(namespace + "/"))
        known = f"; namespace {namespace} has {', '.join(here[:10])}" if here else ""
        raise NotFoundError(f"no pod {name} in namespace {namespace}{known}")
    return workload


def find_destination(snapshot: Snapshot, caller: Workload, text: str) -> tuple[str, int, Destination | None]:
    """Read cart, cart:80, cart.shop:80, cart.shop.svc.cluster.local:80, shop/cart:80, 198.18.0.9:80 or [::1]:80.

    A service without a port means its only one.
    """
    host, port = _split_port(text)
    address = _as_address(host)
    if address is not None:
        if port is None:
            raise BadQueryError(f"to {text!r}: an address needs a port")
        return address, port, snapshot.destination(address, port)
    namespace, name = _service_of(host, caller.namespace)
    found = _frontend(snapshot, f"{namespace}/{name}", port)
    return found.address, found.port, found


def _split_port(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (host.startswith("[") or ":" not in host):
        return host.strip("[]"), int(port)
    return text.strip("[]"), None


def _as_address(host: str) -> str | None:
    try:
        return canonical(host)
    except ValueError:
        return None


def _service_of(host: str, default_namespace: str) -> tuple[str, str]:
    namespace, slash, name = host.partition("/")
    if slash:
        return namespace, name
    labels = host.split(".")
    return (labels[1] if len(labels) > 1 else default_namespace), labels[0]


def _frontend(snapshot: Snapshot, service: str, port: int | None) -> Destination:
    fronts = [d for d in snapshot.destinations.values() if d.is_frontend and d.name.rpartition(":")[0] == service]
    if not fronts:
        raise NotFoundError(f"no Service {service} with an address in this configuration")
    ports = sorted({front.port for front in fronts})
    if port is None and len(ports) > 1:
        listed = ", ".join(map(str, ports))
        raise BadQueryError(f"Service {service} has ports {listed}: name one, for example {service}:{ports[0]}")
    matching = [front for front in fronts if port in (None, front.port)]
    if not matching:
        raise NotFoundError(f"Service {service} has no port {port}; it has {', '.join(map(str, ports))}")
    return min(matching, key=lambda front: (family(front.address), front.address))


# ---- what happens ----


def _at_connect(asked: Asked, destination: Destination) -> Answer:
    caller = asked.caller
    access = network_verdict(destination, caller)
    audits = list(access.audits)
    if access.denied:
        connect = {**_FREE, "allowed": False, "errno": "EPERM", "policy": access.policy, "detail": access.detail}
        return {"rung": destination.rung.value, "verdict": "denied", "connect": connect, "audits": audits}
    rate = destination.connection_rate
    connect = {**_FREE, "limited": connection_line(rate) if rate else ""}
    if destination.rung is Rung.PROXY:
        policy = takes_no_connection(caller)
        if policy:
            why = f"limits.maxConnections of TrafficPolicy {policy} is 0: the proxy resets each connection of this pod"
            connect = {**_FREE, "allowed": False, "errno": "ECONNRESET", "policy": policy, "detail": why}
            return {"rung": "proxy", "verdict": "refused", "connect": connect, "audits": audits}
        return {"rung": "proxy", "connect": connect, **_at_request(asked, destination)}
    return {"rung": "direct", "connect": connect, "audits": audits, **_direct(destination)}


def _dry_run(now: Answer, then: Answer) -> Answer:
    """What `then`, the answer with every policy in force, says beyond the one of now."""
    layer = "request" if then["connect"]["allowed"] else "connect"
    said = then.get(layer, {})
    return {
        "verdict": then["verdict"],
        "layer": layer,
        "policy": said.get("policy") or "",
        "detail": said.get("detail") or "",
        "notes": [note for note in then.get("notes", []) if note not in now.get("notes", [])],
    }


def _direct(destination: Destination) -> Answer:
    notes = []
    if destination.protocol is not Protocol.HTTP1 and destination.has_routes:
        word = destination.protocol.value
        notes.append(
            f"its routes do nothing: the port carries {word}, and only plain HTTP/1 is read (appProtocol: http)"
        )
    if not destination.is_frontend:
        onward = ", to where kube-proxy leads from there" if destination.is_door else ""
        why = f"no rule needs to read requests here: it goes direct{onward}"
        return {"verdict": "allowed", "why": why, "notes": notes}
    if not destination.endpoints:
        connect = {**_FREE, "allowed": False, "errno": "ECONNREFUSED", "detail": "no ready endpoint"}
        return {"verdict": "refused", "connect": connect, "notes": notes}
    endpoints = [f"{endpoint.address}:{endpoint.port}" for endpoint in destination.endpoints]
    who = "kube-proxy, by sessionAffinity," if destination.leave_choice else "connect()"
    why = f"no rule needs to read requests here: {who} picks an endpoint and packets flow as without a mesh"
    notes += _nearby_notes([(destination.name, destination.nearby)])
    return {"verdict": "allowed", "why": why, "endpoints": endpoints, "notes": notes}


def _at_request(asked: Asked, destination: Destination) -> Answer:
    question, caller, regex = asked.question, asked.caller, asked.regex
    host = question.host if question.host is not None else host_sent(destination, question.to)
    sent = {"host": host, "host_assumed": question.host is None}
    try:
        head = request_head(destination, question, host)
    except (PathError, HostError) as error:
        detail = f"{error.reason}: such a request has no single reading"
        return {"verdict": "refused", "request": {"status": 400, "reason": "bad-request", "detail": detail, **sent}}
    address = source_address(destination, caller)
    judge = Judge(destination, regex)
    decided = judge.decide(caller, address, head, 0.0)
    decision = asked.closed(decided, [decided.endpoint] if decided.endpoint else [])
    rule = _rule_of(destination, caller, head, decision, regex)
    shares = list(_shares(asked, judge, rule, address, head)) if rule and not rule.answers and decision.backend else []
    if not shares and decision.backend:
        only = asked.closed(decided, destination.endpoints)
        shares = [Share(only.backend, 1.0, only, destination.endpoints, nearby=destination.nearby)]
    decisions = [share.decision for share in shares] or [decision]
    answer: Answer = {"verdict": _common(map(verdict_of, decisions), "mixed")}
    timeouts, treated = _alike(map(_timeouts, decisions)), _treated_alike(decisions)
    shown = {"filters": filters_text(rule) if rule else [], "timeouts": timeouts, "treatment": treated}
    answer["request"] = {**_in_common(decisions), **sent, **shown}
    answer["notes"] = [*_notes_on(shares), *_nearby_notes((share.backend, share.nearby) for share in shares)]
    if question.host is None and judges_hosts(destination):
        answer["notes"].append(f"rules here look at the host; assumed is {host!r}: give another with -H 'Host: NAME'")
    if shares:
        answer["backends"] = [_backend(share, timeouts, treated) for share in shares]
    return answer


def request_head(destination: Destination, question: Question, host: str) -> RequestHead:
    """The head as the worker would judge it.  Raises PathError or HostError, which the worker answers with 400."""
    raw, _, query = question.target.partition("?")
    path = normalize(raw) if destination.judges_paths else raw
    name = parse_host(host)
    if not name:
        raise HostError("empty host")
    headers = question.headers if question.host is not None else (("host", host), *question.headers)
    return RequestHead(question.method, path, query, name, headers)


def host_sent(destination: Destination, to: str) -> str:
    """What a client sends that dialled `to`: the name that it called, or the address and port.

    The latter is also what the worker takes for the host of an HTTP/1.0 request without one.
    """
    name, _ = _split_port(to)
    if _as_address(name) is not None:
        address = f"[{destination.address}]" if ":" in destination.address else destination.address
        return f"{address}:{destination.port}"
    namespace, slash, service = name.partition("/")  # our own way to write it, not a name that one can dial
    dialled = f"{service}.{namespace}" if slash else name
    return dialled if destination.port == 80 else f"{dialled}:{destination.port}"


def judges_hosts(destination: Destination) -> bool:
    operations = [op for policy in destination.all_policies for rule in policy.rules for op in rule.http]
    headers = [*(rule.headers for rule in destination.rules), *(op.headers for op in operations)]
    return any(op.hosts for op in operations) or any(match.name == "host" for matches in headers for match in matches)


def source_address(destination: Destination, caller: Workload) -> str:
    wanted = family(destination.address)
    return next((address for address in caller.addresses if family(address) == wanted), "")


def verdict_of(decision: Decision) -> str:
    if decision.status == 403:
        return "denied"
    return "error" if decision.is_refusal else "allowed"


def _in_common(decisions: Sequence[Decision]) -> Answer:
    """What becomes of such a request; None where that differs from share to share."""
    names = ("status", "reason", "detail", "flag", "route", "rule", "policy", "location")
    found: Answer = {name: _common((getattr(one, name) for one in decisions), None) for name in names}
    everywhere = set.intersection(*(set(one.audits) for one in decisions))
    return {**found, "audits": [name for name in decisions[0].audits if name in everywhere]}


def _treated_alike(decisions: Sequence[Decision]) -> list[str]:
    """The policies that treat such a request, whichever backend is drawn."""
    return _alike(treatment_described(one.treatment) for one in decisions if not one.status or one.treatment)


def _alike(groups: Iterable[list[str]]) -> list[str]:
    """The lines that all groups have."""
    first, *others = [*groups] or [[]]
    return [line for line in first if all(line in one for one in others)]


def _common(values: Iterable[Value], otherwise: Value) -> Value:
    found = set(values)
    return found.pop() if len(found) == 1 else otherwise


def _rule_of(
    destination: Destination, caller: Workload, head: RequestHead, decision: Decision, regex: Regex
) -> Rule | None:
    """The rule that routed it; by matching and not by name, since a rule may be named as another one's number."""
    return first_match(rules_for(destination, caller) or (), head, regex) if decision.route else None


def _timeouts(decision: Decision) -> list[str]:
    """Those in force, of the rule and of a TrafficPolicy.  None where no upstream is asked: that takes no time."""
    return [] if decision.status else timeouts_described(decision.timeouts)


def _notes_on(shares: Sequence[Share]) -> list[str]:
    """Where one request may fare otherwise than the next, say so."""
    denied = [share.part for share in shares if verdict_of(share.decision) == "denied"]
    if not denied or len(denied) == len(shares):
        return []
    return [f"{sum(denied):.0%} of such requests are denied, by what protects the backend that they are routed to"]


def _nearby_notes(places: Iterable[tuple[str, str]]) -> list[str]:
    """`places`: name of a backend, and where the endpoints that are used of it are."""
    notes = (
        f"of {name} only the endpoints for {where} are used, where this node is (trafficDistribution, or hints)"
        for name, where in places
        if where
    )
    return list(dict.fromkeys(notes))


def _shares(asked: Asked, judge: Judge, rule: Rule, address: str, head: RequestHead) -> Iterator[Share]:
    """Ask the matcher once per backend, with a random number from the middle of that backend's share."""
    start = 0.0
    for backend, part in zip(rule.backends, shares_of(rule.backends), strict=True):
        if part > 0:
            decision = judge.decide(asked.caller, address, head, start + part / 2)
            decision = asked.closed(decision, backend.endpoints)
            yield Share(backend.name, part, decision, backend.endpoints, tuple(filters_text(backend)), backend.nearby)
        start += part


def _backend(share: Share, timeouts: list[str], treated: list[str]) -> Answer:
    """What the others have not: `timeouts` and `treated` are those of all."""
    decision = share.decision
    own = [line for line in treatment_described(decision.treatment) if line not in treated]
    return {
        "name": share.backend,
        "share": round(share.part, 4),
        "verdict": verdict_of(decision),
        "status": decision.status,
        "reason": decision.reason,
        "detail": decision.detail,
        "policy": decision.policy,
        "audits": list(decision.audits),
        "filters": list(share.filters),
        "timeouts": [line for line in _timeouts(decision) if line not in timeouts],
        "treatment": own,
        "endpoints": [f"{endpoint.address}:{endpoint.port}" for endpoint in share.endpoints],
    }
