"""Whatever is saved, one file after another, comes to what a full compile of the same files makes.

Here with broken objects, the last good state, renames, and with what is made of a snapshot by difference: the frames
for workers, the coverage of direct connections and the kernel's tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.groundwork import Groundwork, lay
from nodeagent.config.manifest_files import ManifestFile
from nodeagent.config.objects import Good, merge
from nodeagent.core.coverage import Coverage, coverage, with_changes
from nodeagent.core.differences import changed, gone
from nodeagent.core.kernel_plan import Tables
from nodeagent.core.kernel_state import LocalPod, Name, build, local_pods, needed_names
from nodeagent.core.model import Snapshot, Workload
from nodeagent.proxy.frames import LENGTH, decode_command
from nodeagent.proxy.updates import EMPTY, Encoder, Incoming
from tests.config import builders as some
from tests.core.plans import planned
from tests.testbed import manifests
from tests.testbed.manifests import Document

ROUTES = "gateway.networking.k8s.io"
NAMES = ("a", "b", "c")
ADDRESSES = tuple(f"198.18.0.{number}" for number in range(11, 16))
NODE_PORTS = (30080, 8080)
VIPS = tuple(f"198.19.0.{number}" for number in range(1, 5))
name, address, vip = map(st.sampled_from, (NAMES, ADDRESSES, VIPS))
place = st.sampled_from(("shop", "shop", "shop", "batch"))
broken = st.sampled_from((False, False, False, False, True))
mode = st.sampled_from((None, "Enforce", "DryRun"))
created = st.sampled_from((None, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"))

RULES: tuple[Document, ...] = ({}, {"http": {"methods": ["PUT"]}}, {"networkAttributes": {"ports": [8080, 9]}})


def _service_target(draw: st.DrawFn) -> Document:
    section = draw(st.sampled_from((None, None, None, "http", "alt", "nope")))
    return {"group": "", "kind": "Service", "name": draw(name), **({"sectionName": section} if section else {})}


def _target(draw: st.DrawFn) -> Document:
    if draw(st.booleans()):
        return _service_target(draw)
    section = draw(st.sampled_from((None, "one", "nope")))
    return {"group": ROUTES, "kind": "HTTPRoute", "name": draw(name), **({"sectionName": section} if section else {})}


def _aged(draw: st.DrawFn, document: Document) -> Document:
    age = draw(created)
    return {**document, "metadata": {**document["metadata"], **({"creationTimestamp": age} if age else {})}}


@st.composite
def services(draw: st.DrawFn) -> Document:
    protocol = draw(st.sampled_from(("http", "http", "tcp", None)))
    one = manifests.service(draw(place), draw(name), [draw(vip)], app_protocol=protocol)
    if draw(st.booleans()):
        one["spec"]["ports"].append({"name": "alt", "port": 81, "targetPort": 8080, "appProtocol": "http"})
    spec = one["spec"]
    spec["externalIPs"] = draw(st.lists(st.one_of(address, vip), max_size=1))
    spec["ports"][0]["nodePort"] = draw(st.sampled_from((0, 0, *NODE_PORTS)))
    spec["sessionAffinity"] = draw(st.sampled_from(("None", "None", "ClientIP")))
    spec["internalTrafficPolicy"] = draw(st.sampled_from(("Cluster", "Cluster", "Local")))
    if draw(broken):
        spec["ports"][0]["port"] = 0
    return one


@st.composite
def nodes(draw: st.DrawFn) -> Document:
    listed = [{"type": "InternalIP", "address": draw(address)}]
    spec = {"podCIDRs": [draw(st.sampled_from(("198.18.0.10/31", "198.18.1.0/24")))]}
    metadata = {"name": draw(name)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": {"addresses": listed}}


@st.composite
def slices(draw: st.DrawFn) -> Document:
    hosts = draw(st.lists(address, max_size=3, unique=True))
    port_name = draw(st.sampled_from(("http", "http", "alt")))
    one = manifests.endpoint_slice(draw(place), draw(name), hosts, port_name=port_name, suffix=draw(name))
    for endpoint in one["endpoints"]:
        endpoint["conditions"]["ready"] = draw(st.booleans())
    return one


@st.composite
def pods(draw: st.DrawFn) -> Document:
    return some.pod(draw(place), draw(name), draw(address), draw(name))


@st.composite
def namespaces(draw: st.DrawFn) -> Document:
    return manifests.namespace(draw(place), enrolled=draw(st.booleans()))


@st.composite
def routes(draw: st.DrawFn) -> Document:
    backends = [manifests.backend(draw(name), draw(st.integers(0, 2)), draw(st.sampled_from((80, 81))))]
    rule: Document = {"name": "one", "backendRefs": backends}
    if draw(st.booleans()):
        mirrored = {"name": draw(name), "port": 80}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": mirrored}}]
    if draw(broken):
        rule["timeouts"] = {"request": "soon"}
    one = manifests.http_route(draw(place), draw(name), draw(name), [rule])
    if draw(st.booleans()):
        one["spec"]["parentRefs"][0]["namespace"] = draw(place)
    return _aged(draw, one)


@st.composite
def authorizations(draw: st.DrawFn) -> Document:
    rule = draw(st.sampled_from(RULES))
    action = draw(st.sampled_from(("ALLOW", "DENY")))
    if draw(st.booleans()):
        rules = [{"sources": [{"namespace": "batch"}]}]
        one = some.namespace_policy(draw(place), draw(name), action, rules)
    else:
        one = manifests.authorization_policy(
            draw(place), draw(name), draw(name), action=action, level="Application", rules=[rule]
        )
    if draw(broken):
        one["spec"]["rules"] = [{"sources": [{"cidr": "ten"}]}]
    if (chosen := draw(mode)) is not None:
        one["spec"]["mode"] = chosen
    return one


@st.composite
def treatments(draw: st.DrawFn) -> Document:
    where, chosen = draw(place), draw(mode)
    spec: dict[str, Any] = {"mode": chosen} if chosen else {}
    if draw(st.integers(0, 3)) == 0:
        spec["limits"] = {"maxConnections": draw(st.integers(0, 2))}
        return _aged(draw, manifests.traffic_policy(where, draw(name), {"kind": "Namespace", "name": where}, **spec))
    spec |= draw(st.sampled_from(({}, {"timeouts": {"request": "1s"}}, {"retry": {}})))
    if draw(broken):
        spec["retry"] = {"attempts": 0}
    return _aged(draw, manifests.traffic_policy(where, draw(name), _target(draw), **spec))


@st.composite
def limits(draw: st.DrawFn) -> Document:
    chosen, most = draw(mode), draw(st.integers(0, 3))  # 0 is broken
    spec: dict[str, Any] = {"mode": chosen} if chosen else {}
    if draw(st.booleans()):
        spec["connections"] = {"limit": {"connections": most}}
        target = _service_target(draw)
    else:
        spec["http"] = {"rules": [{"name": "all", "limit": {"requests": most}}]}
        target = _target(draw)
    return _aged(draw, manifests.rate_limit_policy(draw(place), draw(name), target, **spec))


FILES = 4
document = st.one_of(
    services(), slices(), pods(), nodes(), namespaces(), routes(), authorizations(), treatments(), limits()
)
content = st.lists(document, min_size=1, max_size=4)
Step = tuple[str, int, int, list[Document]]
step: st.SearchStrategy[Step] = st.tuples(
    st.sampled_from(("save", "save", "save", "save", "remove", "rename", "unreadable")),
    st.integers(0, FILES - 1),
    st.integers(0, FILES - 1),
    content,
)


@dataclass
class Directory:
    """Files as the agent reads them: one that did not change is the same object, also under a new name."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, ManifestFile] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        what, number, other, documents = step
        at, to = f"{number}.yaml", f"{other}.yaml"
        if what in ("save", "unreadable"):
            self._put(at, some.text(*documents) + ("\n---\n{:" if what == "unreadable" else ""))
        elif at in self.texts:
            text = self.texts.pop(at)
            del self.files[at]
            if what == "rename":
                self._put(to, text)

    def _put(self, at: str, text: str) -> None:
        self.texts[at], self.files[at] = text, some.read(at, text)


@dataclass
class Agent:
    """What is carried from one generation to the next."""

    good: Good = field(default_factory=dict)
    ground: Groundwork | None = None
    last: Snapshot = EMPTY
    encoder: Encoder = field(default_factory=Encoder)
    worker: Snapshot = EMPTY
    covered: tuple[list[Workload], Coverage] | None = None
    tables: Tables = field(default_factory=Tables)
    local: list[tuple[Workload, LocalPod]] = field(default_factory=list)
    ids: dict[Name, int] = field(default_factory=dict)

    def compile(self, directory: Directory, generation: int) -> Snapshot:
        self.good, objects = merge(list(directory.files.values()), self.good)
        self.ground = lay(objects, self.ground)
        now = compile_objects(objects, generation, groundwork=self.ground)
        assert some.same(now, compile_objects(objects, generation))
        return now[0]

    def tell_worker(self, snapshot: Snapshot) -> None:
        found = received(self.encoder.advance(snapshot), self.worker)
        whole = received(self.encoder.whole(), EMPTY)
        met = {target: one for target, one in snapshot.destinations.items() if one.is_met_by_workers}
        assert dict(found.destinations) == dict(whole.destinations) == met
        assert found.workloads == whole.workloads
        self.worker = found

    def cover(self, snapshot: Snapshot) -> None:
        pods, before = list(snapshot.workloads.values()), self.covered
        now = coverage(snapshot, pods)
        if before and before[0] == pods:
            met = changed(self.last.destinations, snapshot.destinations)
            left = gone(self.last.destinations, snapshot.destinations)
            assert with_changes(before[1], met, left, pods) == now
        self.covered = pods, now

    def sync(self, snapshot: Snapshot) -> None:
        """As kernel/sync.py does it."""
        held = {key: LocalPod(number, ()) for number, key in enumerate(sorted(snapshot.workloads), 1)}
        local = list(local_pods(snapshot, held))
        there = snapshot.destinations
        renewed, left = changed(self.last.destinations, there), gone(self.last.destinations, there)
        if local != self.local:
            ruled = {target for target, row in self.tables.destinations.items() if row.policy}
            renewed |= {target: there[target] for target in ruled if target in there}
        for one in sorted(needed_names(snapshot, held)):
            self.ids.setdefault(one, len(self.ids) + 1)
        before = self.tables
        todo, self.tables = planned(before, build(replace(snapshot, destinations=renewed), held, self.ids), left)
        _, fresh = planned(Tables(), build(snapshot, held, self.ids))
        assert read_out(self.tables) == read_out(fresh)
        assert written(before.rates, todo.rates, todo.gone_rates) == fresh.rates
        assert written(before.destinations, todo.destinations, todo.gone_destinations) == self.tables.destinations
        self.local = local

    def step(self, directory: Directory, generation: int) -> None:
        snapshot = self.compile(directory, generation)
        self.tell_worker(snapshot)
        self.cover(snapshot)
        self.sync(snapshot)
        self.last = snapshot


def received(frames: list[bytes], current: Snapshot) -> Snapshot:
    """What a worker makes of these frames."""
    incoming, found = Incoming(), None
    for frame in frames:
        command, value = decode_command(frame[LENGTH.size :])
        if command == "rules":
            incoming.rules(*value)
        elif command == "part":
            incoming.part(value)
        else:
            found = incoming.finish(value, current)
    assert found is not None
    return found


def written(before: Mapping[Any, Any], new: Mapping[Any, Any], gone: Iterable[Any]) -> dict[Any, Any]:
    """What a map holds after these writes and deletions."""
    left = set(gone)
    return {key: value for key, value in {**before, **new}.items() if key not in left}


def read_out(tables: Tables) -> tuple[object, ...]:
    """What a connect finds, without the numbers of sets and tables."""
    rows = {
        target: (
            row.dest,
            row.flags,
            tables.endpoint_sets.get(row.ep_set),
            row.ep_count,
            row.policy and tables.verdict_tables[row.policy],
        )
        for target, row in tables.destinations.items()
    }
    return rows, tables.rates, tables.pods, tables.own_addresses


def base() -> list[Document]:
    """Something for the rest to meet, with a route and without; a file that comes first by name can say otherwise."""
    found = some.callers()
    for number, one in enumerate(NAMES):
        found += [
            *some.service(one, f"198.19.0.{10 + number}", ADDRESSES[number]),
            some.pod("shop", one, ADDRESSES[number]),
        ]
        backends = [manifests.backend(one, 1), manifests.backend("a", 1)]
        if one != "c":
            found.append(manifests.http_route("shop", one, one, [{"name": "one", "backendRefs": backends}]))
    return found


BASE = some.read("base.yaml", some.text(*base()))


@given(st.lists(step, min_size=4, max_size=16))
def test_any_order_of_saves_comes_to_what_a_full_compile_makes(steps: list[Step]) -> None:
    directory, agent = Directory(files={"base.yaml": BASE}), Agent()
    for generation, one in enumerate(steps, 1):
        directory.take(one)
        agent.step(directory, generation)
