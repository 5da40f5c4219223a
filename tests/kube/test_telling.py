"""What agents tell the API server, two of them with real sources: conditions, confirmations, one writer, Events."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeagent.agent.left_out import LeftOut
from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import PodObject
from nodeagent.kube import node_reporter, telling
from nodeagent.kube.kinds import BY_NAME, KINDS
from nodeagent.kube.relay import Relay
from nodeagent.kube.source import KubernetesSource
from nodeagent.kube.telling import LEASE, Telling
from nodeagent.status import silence
from nodeagent.status.election import Timing
from nodeagent.status.entries import CONTROLLER
from nodeagent.status.mesh_node import ENFORCING, NodeFacts
from tests.kube import meanwhile, samples
from tests.kube.model import Server, Value
from tests.kube.writable_api import WritableApi

TIMING = Timing(lease=1.0, renew_within=0.7, renew=0.1, retry=0.1, look=0.2)
LEASES = "/apis/coordination.k8s.io/v1/leases"
EVENTS = "/api/v1/events"
AGENTS = "/api/v1/namespaces/nodeagent/pods"
ROUTES, SERVICES, NODES = (BY_NAME[name].path for name in ("HTTPRoute", "Service", "Node"))
CART = {"group": "", "kind": "Service", "name": "cart"}
EDGE = {"name": "edge"}
NOTHING = ObjectSet()
OTHERS: Value = {"parentRef": EDGE, "controllerName": "example.com/gateway", "conditions": []}


class MiniAgent:
    """An agent without kernel and workers: what it compiled is in force at once, unless it is `stuck`."""

    def __init__(self, model: Server, node: str, state: Path) -> None:
        self.api = WritableApi(model)
        relay = Relay()
        self.telling = Telling(self.api, relay, node, "nodeagent", TIMING)
        self._source = KubernetesSource(self.api, state, node, relay)
        self.stuck = False
        self._objects = NOTHING
        self._in_force = NOTHING

    async def run(self) -> None:
        telling = asyncio.create_task(self.telling.run())
        looking = asyncio.create_task(self._look())
        try:
            self._apply(await self._source.start())
            async for objects in self._source.watch():
                self._apply(objects)
        finally:
            telling.cancel()
            looking.cancel()
            await asyncio.gather(telling, looking, return_exceptions=True)
            await self._source.close()

    async def _look(self) -> None:
        """As agent.reporting does: what changes is told at once, and the rest every now and then."""
        while True:
            await asyncio.sleep(0.1)
            if self._objects is not NOTHING:
                self.enforce()

    def _apply(self, objects: ObjectSet) -> None:
        self._objects = objects
        self.telling.compiled(objects, compile_objects(objects, 1)[1])
        self.enforce()

    def enforce(self) -> None:
        if not self.stuck:
            self._in_force = self._objects
        self.telling.node(NodeFacts(ENFORCING, "6.18", "0.1.0"), self._in_force)

    def told(self, *without: str) -> list[tuple[str, str]]:
        """Its writes, but those of the Lease."""
        return [one for one in self.api.writes if "/leases" not in one[1] and not one[1].endswith(without or ("-",))]


def server() -> Server:
    made = Server(*(kind.path for kind in KINDS), LEASES, EVENTS, AGENTS, node_reporter.COLLECTION)
    made.put(BY_NAME["Namespace"].path, samples.namespace("shop"))
    for name in ("n1", "n2"):
        made.put(NODES, node(name))
    made.put(SERVICES, service())
    return made


def node(name: str, *, ready: bool = True) -> Value:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]}
    return {"metadata": samples.metadata("", name), "status": status}


def agent_pod(node: str, *, ready: bool = True) -> Value:
    metadata = samples.metadata("nodeagent", f"nodeagent-{node}")
    metadata["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "nodeagent", "uid": "u"}]
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"conditions": conditions}}


def service(name: str = "cart", address: str = "10.96.0.1") -> Value:
    port = {"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}
    spec = {"clusterIP": address, "clusterIPs": [address], "type": "ClusterIP", "ports": [port]}
    return {"metadata": samples.metadata("shop", name), "spec": spec}


def route(name: str, *parents: Value, backend: str = "cart", namespace: str = "shop", **more: Any) -> Value:
    reference = {"name": backend, "namespace": "shop", "port": 80}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": samples.metadata(namespace, name),
        "spec": {"parentRefs": list(parents or [CART]), "rules": [{"backendRefs": [reference], **more}]},
    }


def changed(model: Server, name: str, spec: Callable[[Value], None], namespace: str = "shop") -> None:
    """A user's change: its own generation, and the status stays."""
    value = copy.deepcopy(model.collections[ROUTES].objects[namespace, name])
    spec(value["spec"])
    value["metadata"]["generation"] += 1
    model.put(ROUTES, value)


def said(model: Server, name: str, namespace: str = "shop", controller: str = CONTROLLER) -> dict[str, str]:
    """Type -> "status reason generation" of our only entry."""
    entries = [one for one in parents(model, name, namespace) if one["controllerName"] == controller]
    if len(entries) != 1:
        return {"entries": str(len(entries))}
    return {
        one["type"]: f"{one['status']} {one['reason']} {one['observedGeneration']}" for one in entries[0]["conditions"]
    }


def parents(model: Server, name: str, namespace: str = "shop") -> list[Value]:
    found: list[Value] = model.collections[ROUTES].objects[namespace, name].get("status", {}).get("parents", [])
    return found


GOOD = {"Accepted": "True Accepted 1", "ResolvedRefs": "True ResolvedRefs 1", "Programmed": "True Programmed 1"}


async def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < end, "it did not come to that in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(model: Server, tmp_path: Path, *nodes: str) -> AsyncIterator[list[MiniAgent]]:
    agents = [MiniAgent(model, name, tmp_path / name) for name in nodes]
    async with AsyncExitStack() as stack:
        for agent, name in zip(agents, nodes, strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            await stack.enter_async_context(meanwhile.running(agent))
        yield agents


async def leader(agents: list[MiniAgent]) -> MiniAgent:
    """Who leads, once one does: each stands for election when something is in force."""
    await until(lambda: any(one.telling.leadership.leads for one in agents))
    (found,) = [one for one in agents if one.telling.leadership.leads]
    return found


def played(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def test_conditions_are_written_and_programmed_once_every_node_has_it(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        for one in (
            route("good", EDGE, CART),
            route("lost", backend="gone"),
            route("strange", matches=[{"path": {"type": "Glob", "value": "/"}}]),
            route("consumer", {**CART, "namespace": "shop"}, namespace="batch"),
            route("edge", EDGE),
        ):
            model.put(ROUTES, one)
        async with running(model, tmp_path, "n1", "n2"):
            await until(lambda: said(model, "good") == GOOD)
            await until(lambda: said(model, "consumer", "batch") == GOOD)
            await until(lambda: said(model, "lost") == {**GOOD, "ResolvedRefs": "False BackendNotFound 1"})
            await until(lambda: said(model, "strange").get("Accepted") == "False UnsupportedValue 1")
            assert [one["parentRef"] for one in parents(model, "good")] == [CART]
            assert parents(model, "edge") == []
            assert parents(model, "consumer", "batch")[0]["parentRef"] == {**CART, "namespace": "shop"}

    played(story)


def test_a_node_that_does_not_enforce_it_holds_programmed_back_until_it_is_not_ready(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1", "n2") as agents:
            await until(lambda: len(model.collections[node_reporter.COLLECTION].objects) == 2)
            agents[1].stuck = True
            model.put(ROUTES, route("r"))
            await until(lambda: said(model, "r").get("Accepted") == "True Accepted 1")
            await asyncio.sleep(1.0)
            assert said(model, "r")["Programmed"] == "Unknown Pending 1"
            model.put(NODES, node("n2", ready=False))
            await until(lambda: said(model, "r") == GOOD)
            model.put(NODES, node("n2"))
            changed(model, "r", lambda spec: spec["rules"][0].update(timeouts={"request": "1s"}))
            await until(lambda: said(model, "r")["Programmed"] == "Unknown Pending 2")
            agents[1].stuck = False
            agents[1].enforce()
            await until(lambda: said(model, "r")["Programmed"] == "True Programmed 2")

    played(story)


def test_who_has_nothing_in_force_yet_stands_for_election_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PATIENCE", 1.0)

    async def story() -> None:
        model = server()
        agent = MiniAgent(model, "n1", tmp_path)
        agent.stuck = True
        began = asyncio.get_running_loop().time()
        async with meanwhile.running(agent):
            await until(agent.told)  # its MeshNode
            assert not model.collections[LEASES].objects
            await until(lambda: agent.telling.leadership.leads)
            assert asyncio.get_running_loop().time() - began >= 1.0

    played(story)


def test_while_nothing_changes_only_the_lease_is_written(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        model.put(ROUTES, route("good"))
        model.put(ROUTES, route("lost", backend="gone"))
        async with running(model, tmp_path, "n1", "n2") as agents:
            await until(lambda: said(model, "good") == GOOD and "Programmed" in said(model, "lost"))
            await asyncio.sleep(1.0)
            before = [one.told() for one in agents]
            await asyncio.sleep(3.0)
            assert [one.told() for one in agents] == before
            assert any("/leases" in path for one in agents for _, path in one.api.writes[-5:])

    played(story)


def test_a_leader_that_is_cut_off_writes_nothing_any_more_and_the_final_status_is_right(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        model.put(ROUTES, route("r"))
        async with running(model, tmp_path, "n1", "n2") as agents:
            await until(lambda: said(model, "r") == GOOD)
            first = await leader(agents)
            second = next(one for one in agents if one is not first)
            first.api.cut.set()
            before = len(first.api.writes)
            changed(model, "r", lambda spec: spec["rules"][0]["backendRefs"][0].update(name="gone"))
            await until(lambda: said(model, "r").get("ResolvedRefs") == "False BackendNotFound 2")
            assert second.telling.leadership.leads
            assert not first.telling.leadership.leads
            assert said(model, "r")["Programmed"] == "Unknown Pending 2"  # the node that is cut off has the old rule
            first.api.cut.clear()
            await until(lambda: said(model, "r")["Programmed"] == "True Programmed 2")
            await asyncio.sleep(1.0)
            assert said(model, "r")["ResolvedRefs"] == "False BackendNotFound 2"
            late = [path for _, path in first.api.writes[before:] if path.endswith("/r/status")]
            assert late == []

    played(story)


def test_a_leader_that_ends_gives_the_lease_up(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1"):
            await until(lambda: (("nodeagent", LEASE)) in model.collections[LEASES].objects)
        spec = model.collections[LEASES].objects["nodeagent", LEASE]["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)

    played(story)


def test_what_another_controller_writes_at_the_same_time_stays(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        model.put(ROUTES, route("r", EDGE, CART))
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: said(model, "r") == GOOD)
            agent.api.refuse = [409]
            value = copy.deepcopy(model.collections[ROUTES].objects["shop", "r"])
            value["status"]["parents"].append(OTHERS)
            value["spec"]["parentRefs"] = [EDGE]
            value["metadata"]["generation"] = 2
            model.put(ROUTES, value)
            await until(lambda: parents(model, "r") == [OTHERS])  # ours is stale, and goes
            assert agent.telling.statuses.counts.conflicts == 1

    played(story)


def test_who_takes_our_entry_away_again_and_again_is_answered_more_and_more_slowly(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        model.put(ROUTES, route("r"))
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: said(model, "r") == GOOD)
            before, end = len(agent.told()), asyncio.get_running_loop().time() + 3.0
            while asyncio.get_running_loop().time() < end:
                if parents(model, "r"):
                    value = copy.deepcopy(model.collections[ROUTES].objects["shop", "r"])
                    value["status"] = {}
                    model.put(ROUTES, value)
                await asyncio.sleep(0.01)
            assert 1 <= len(agent.told()) - before <= 8
            await until(lambda: said(model, "r") == GOOD)

    played(story)


def test_a_reject_is_an_event_with_its_field_and_a_new_leader_does_not_repeat_it(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1", "n2") as agents:
            await until(lambda: any(one.telling.leadership.leads for one in agents))
            began = asyncio.get_running_loop().time()
            model.put(ROUTES, route("lost", {**CART, "name": "gone"}))
            await until(lambda: model.collections[EVENTS].objects)
            assert asyncio.get_running_loop().time() - began < 2.0
            (event,) = model.collections[EVENTS].objects.values()
            assert event["reason"] == "NoMatchingParent"
            assert event["message"].startswith("spec.parentRefs[0].name: Service shop/gone does not exist")
            assert event["involvedObject"]["uid"] == "uid-of-lost"
            first = await leader(agents)
            first.api.cut.set()
            await until(lambda: any(one.telling.leadership.leads for one in agents if one is not first))
            await asyncio.sleep(1.0)
            assert [one["count"] for one in model.collections[EVENTS].objects.values()] == [1]

    played(story)


def test_a_refused_pod_has_one_event_of_its_nodes_agent_however_often_it_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        pod = PodObject("shop", "web", "default", "", ("10.0.0.1",), "enabled", "", "n2", host_network=False, uid="u")
        left_out, there = LeftOut("n2"), ObjectSet(pods={"shop/web": pod})
        async with running(model, tmp_path, "n1", "n2") as agents:
            for now in (0.0, 5.0, 6.0):
                agents[1].telling.happened(left_out.news(there, {"shop/web": "its namespace is another pod's"}, now))
            await until(lambda: model.collections[EVENTS].objects)
            again = LeftOut("n2")  # of an agent that was started again
            for now in (0.0, 5.0):
                agents[1].telling.happened(again.news(there, {"shop/web": "its namespace is another pod's"}, now))
            await asyncio.sleep(0.5)
            (event,) = model.collections[EVENTS].objects.values()
            assert (event["involvedObject"]["kind"], event["involvedObject"]["uid"]) == ("Pod", "u")
            assert (event["reason"], event["count"], event["source"]["host"]) == ("NotEnrolled", 1, "n2")
            assert event["message"].startswith("not in the mesh: its namespace is another pod's")

    played(story)


def test_an_api_server_that_refuses_for_a_while_gets_the_status_in_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: agent.telling.leadership.leads)
            agent.api.refuse = [500, 403, 429]
            model.put(ROUTES, route("r"))
            await until(lambda: said(model, "r") == GOOD, 10.0)

    played(story)


def test_an_answer_that_is_lost_is_not_written_twice(tmp_path: Path) -> None:
    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: agent.telling.leadership.leads and agent.told())
            await asyncio.sleep(0.7)
            agent.api.lost = True
            model.put(ROUTES, route("r", {**CART, "name": "gone"}))
            await until(lambda: "Accepted" in said(model, "r"))
            agent.api.lost = False
            await asyncio.sleep(1.5)
            assert len([path for _, path in agent.api.writes if path.endswith("/r/status")]) == 1

    played(story)


def test_an_agent_whose_pod_is_not_ready_is_not_said_to_be_and_says_so_itself_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed, and hangs or crashes again and again: nobody is there to say so."""
    monkeypatch.setattr(silence, "GRACE", 0.5)

    async def story() -> None:
        model = server()
        for name in ("n1", "n2"):
            model.put(AGENTS, agent_pod(name))
        async with running(model, tmp_path, "n1", "n2") as agents:
            await until(lambda: states(model) == {"n1": "True Ready", "n2": "True Ready"})
            first = await leader(agents)
            lost = next(one for one in agents if one is not first)
            name = lost.telling.reporter.node
            await asyncio.sleep(1.0)
            before = [one.told() for one in agents]
            lost.api.cut.set()
            model.put(AGENTS, agent_pod(name, ready=False))
            await until(lambda: states(model)[name] == "Unknown AgentSilent")
            await asyncio.sleep(1.0)
            path = f"{node_reporter.COLLECTION}/{name}/status"
            assert [one.told() for one in agents if one is not lost] == [
                [*before[agents.index(one)], ("PATCH", path)] for one in agents if one is not lost
            ]
            lost.api.cut.clear()
            model.put(AGENTS, agent_pod(name))
            lost.telling.reporter.look_again()
            await until(lambda: states(model)[name] == "True Ready")

    played(story)


def test_a_policy_that_forbids_to_speak_for_a_silent_agent_keeps_no_route_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "GRACE", 0.2)

    async def story() -> None:
        model = server()
        for name in ("n1", "r"):
            model.put(AGENTS, agent_pod(name, ready=name == "n1"))
        model.put(NODES, node("r"))
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: states(model) == {"n1": "True Ready"})
            agent.api.refuse = [403] * 50  # of the status of objects called r
            model.put(node_reporter.COLLECTION, lost_mesh_node(model, "r"))
            await until(lambda: len(agent.api.refuse) == 45, 15.0)  # the next try is 1.6 to 3.2 s away
            began = asyncio.get_running_loop().time()
            model.put(ROUTES, route("lost", backend="nobody"))  # which is told at once
            await until(lambda: said(model, "lost").get("ResolvedRefs") == "False BackendNotFound 1")
            assert asyncio.get_running_loop().time() - began < 1.5
            assert len(agent.api.refuse) == 45

    played(story)


def lost_mesh_node(model: Server, name: str) -> Value:
    """As that of n1."""
    value = copy.deepcopy(model.collections[node_reporter.COLLECTION].objects["", "n1"])
    return {**value, "metadata": {"name": name, "uid": f"uid-of-{name}", "generation": 1}}


def states(model: Server) -> dict[str, str]:
    """Of MeshNodes: status and reason of Ready."""
    nodes = model.collections[node_reporter.COLLECTION].objects
    found = {name: one.get("status", {}).get("conditions", []) for (_, name), one in nodes.items()}
    return {name: f"{said[0]['status']} {said[0]['reason']}" for name, said in found.items() if said}


def test_an_agent_looks_at_its_mesh_node_when_its_node_is_ready_again(tmp_path: Path) -> None:
    """While it was not, the writer may have said that the agent is silent."""

    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1"):
            await until(lambda: states(model) == {"n1": "True Ready"})
            model.put(NODES, node("n1", ready=False))
            value = copy.deepcopy(model.collections[node_reporter.COLLECTION].objects["", "n1"])
            value["status"]["conditions"][0] |= {"status": "Unknown", "reason": "AgentSilent"}
            model.put(node_reporter.COLLECTION, value)
            await asyncio.sleep(0.2)
            assert states(model) == {"n1": "Unknown AgentSilent"}
            model.put(NODES, node("n1"))
            await until(lambda: states(model) == {"n1": "True Ready"})

    played(story)


def test_a_mesh_node_is_made_belongs_to_its_node_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "LEADERS_SECONDS", 1.0)

    async def story() -> None:
        model = server()
        nodes = model.collections[node_reporter.COLLECTION].objects
        async with running(model, tmp_path, "n1") as (agent,):
            await until(lambda: nodes.get(("", "n1"), {}).get("status"))
            one = nodes["", "n1"]
            assert one["metadata"]["ownerReferences"][0]["uid"] == "uid-of-n1"
            assert {item["kind"] for item in one["status"]["inForce"]} == {
                "HTTPRoute",
                "AuthorizationPolicy",
                "TrafficPolicy",
                "RateLimitPolicy",
            }
            model.delete(node_reporter.COLLECTION, "", "n1")
            model.put(ROUTES, route("r"))
            await until(lambda: said(model, "r") == GOOD)
            await until(lambda: nodes.get(("", "n1"), {}).get("status"))
            assert agent.telling.reporter.failed == 1

    played(story)


def test_the_writer_waits_for_no_mesh_node_of_its_own_which_is_written_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "LEADERS_SECONDS", 6.0)

    async def story() -> None:
        model = server()
        model.delete(NODES, "", "n2")
        async with running(model, tmp_path, "n1") as (agent,):
            await leader([agent])
            await until(lambda: agent.telling.reporter.written)
            await asyncio.sleep(0.5)
            before, began = agent.telling.reporter.written, asyncio.get_running_loop().time()
            for name in ("a", "b", "c"):
                model.put(ROUTES, route(name))
                await until(lambda name=name: said(model, name) == GOOD, 1.0)  # type: ignore[misc]  # its default
            await asyncio.sleep(1.5)
            assert agent.telling.reporter.written <= before + 1
            assert held(model, "n1") != {"HTTPRoute": 3}
            await until(lambda: held(model, "n1") == {"HTTPRoute": 3}, 8.0)
            assert asyncio.get_running_loop().time() - began < 6.0 + 1.0

    played(story)


def test_what_a_writer_that_ends_has_in_force_is_said_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "LEADERS_SECONDS", 60.0)

    async def story() -> None:
        model = server()
        async with running(model, tmp_path, "n1") as (agent,):
            await leader([agent])
            await until(lambda: agent.telling.reporter.written)
            await asyncio.sleep(0.5)
            model.put(ROUTES, route("a"))
            await until(lambda: said(model, "a") == GOOD)
            assert held(model, "n1") == {}
        await agent.telling.end(leaves=True)
        assert held(model, "n1") == {"HTTPRoute": 1}

    played(story)


def held(model: Server, node: str) -> dict[str, int]:
    """Kind -> how many objects its MeshNode says that it has in force; those of which there are any."""
    told = model.collections[node_reporter.COLLECTION].objects["", node]["status"]["inForce"]
    return {one["kind"]: one["objects"] for one in told if one["objects"]}
