"""What Kubernetes promises of Services holds in the mesh: what kube-proxy does, beside what a pod in the mesh meets.

Each behaviour is tried from a pod outside the mesh, which meets kube-proxy alone, and from one in it: of a Service
whose connections go direct and of one whose requests pass the proxy.  docs/services.md has the table.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.cluster import addresses, gateway_api, paths, workloads
from tests.cluster.cluster import Cluster
from tests.cluster.services_stand import (
    DIRECT,
    INSIDE,
    OUTSIDE,
    PROXIED,
    Stand,
    caller,
    denying,
    endpoint_slice,
    server,
    service,
)
from tests.cluster.workloads import PORT

AGENT = paths.HERE / "manifests" / "whole"
BOTH = (OUTSIDE, INSIDE)
EXTERNAL = {DIRECT: "198.18.255.200", PROXIED: "198.18.255.201"}  # on the wire, and nobody's
BALANCER = {DIRECT: "198.18.255.202", PROXIED: "198.18.255.203"}
OWN_NODE, OTHER_NODE = addresses.node(1), addresses.node(2)
RUNGS = (DIRECT, PROXIED)
ONE, TWO = "cart-1", "cart-2"  # on node 1, where the callers are, and on node 2


ECHO = """\
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 9053))
while True:
    data, peer = server.recvfrom(100)
    server.sendto(data.upper(), peer)
"""
SEND = """\
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.5)
client.connect((sys.argv[1], 80))
for attempt in range(20):
    try:
        client.send(b"hello")
        print(client.recv(100).decode())
        break
    except (TimeoutError, ConnectionRefusedError):
        pass
"""


@pytest.fixture(scope="module")
def stand(cluster: Cluster, agent_images_loaded: list[str]) -> Iterator[Stand]:
    assert agent_images_loaded
    gateway_api.install(cluster)
    cluster.kubectl("delete", "-k", str(AGENT), "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("apply", "--server-side", "-k", str(AGENT))
    cluster.kubectl("-n", "nodeagent", "rollout", "status", "daemonset/nodeagent", "--timeout=90s")
    name = f"services-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    made = Stand(cluster, name)
    made.apply(server(ONE, "node1"), server(TWO, "node2"), caller(INSIDE), caller(OUTSIDE))
    yield made
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    cluster.kubectl("delete", "-k", str(AGENT), "--timeout=60s")


@pytest.fixture(scope="module")
def doors(stand: Stand) -> dict[str, Any]:
    """Services with every kind of address: rung -> form -> (address, port)."""
    found: dict[str, Any] = {}
    for rung, address in stand.services("doors", type="LoadBalancer").items():
        name, external, balancer = f"doors-{rung}", EXTERNAL[rung], BALANCER[rung]
        stand.patch(f"service/{name}", {"spec": {"externalIPs": [external]}})
        ingress = {"status": {"loadBalancer": {"ingress": [{"ip": balancer}]}}}
        stand.patch(f"service/{name}", ingress, "--subresource=status")
        node_port = int(stand.get(f"service/{name}", ".spec.ports[0].nodePort"))
        found[rung] = {
            "cluster IP": (address, 80),
            "pod's address": (stand.pod_address(TWO), PORT),
            "node port of the own node": (OWN_NODE, node_port),
            "node port of another node": (OTHER_NODE, node_port),
            "external IP": (external, 80),
            "load balancer's IP": (balancer, 80),
        }
    return found


# ---- where connections go ----


def test_a_cluster_ip_leads_to_every_endpoint(stand: Stand) -> None:
    for address in stand.services("plain").values():
        stand.find({ONE, TWO}, BOTH, address)


def test_an_endpoint_keeps_a_client_that_asks_for_affinity(stand: Stand) -> None:
    for rung, address in stand.services("sticky", sessionAffinity="ClientIP").items():
        for one in BOTH:
            stand.eventually(partial(is_served, stand, one, address), f"{one} is served")
            assert len(stand.finds(one, address, count=60)) == 1, f"{one}, {rung}"


def test_a_client_may_come_to_another_endpoint_after_the_affinity_timeout(stand: Stand) -> None:
    """Direct ones are kube-proxy's.  The proxy keeps a caller's endpoint for as long as it has it."""
    timeout = {"clientIP": {"timeoutSeconds": 1}}
    found = stand.services("forgetful", sessionAffinity="ClientIP", sessionAffinityConfig=timeout)
    for one in BOTH:
        for address in found.values():
            stand.eventually(partial(is_served, stand, one, address), f"{one} is served")
            assert len(stand.finds(one, address, count=40)) == 1
    seen: dict[tuple[str, str], Counter[str]] = {(one, rung): Counter() for one in BOTH for rung in RUNGS}
    for _ in range(14):  # 1 in 8,192 that the same comes every time
        time.sleep(1.6)
        for one, rung in seen:
            seen[one, rung] += stand.ask(one, found[rung], count=1)
    assert {key: len(answers) for key, answers in seen.items()} == {
        (OUTSIDE, DIRECT): 2,
        (OUTSIDE, PROXIED): 2,
        (INSIDE, DIRECT): 2,
        (INSIDE, PROXIED): 1,
    }


def is_served(stand: Stand, one: str, address: str) -> bool:
    return stand.finds(one, address, count=1) <= {ONE, TWO}


def test_an_internal_traffic_policy_local_stays_on_the_node(stand: Stand) -> None:
    for address in stand.services("local", internalTrafficPolicy="Local").values():
        stand.find({ONE}, BOTH, address, count=30)


def test_an_internal_traffic_policy_local_without_an_endpoint_on_the_node_leads_nowhere(stand: Stand) -> None:
    """kube-proxy drops; a connection in the mesh is refused at once, a request answered 503."""
    stand.apply(server("far-1", "node2", "far"))
    found = stand.services("far", "far", internalTrafficPolicy="Local")
    stand.find({"timeout"}, (OUTSIDE,), found[DIRECT], count=2)
    stand.find({"ECONNREFUSED"}, (INSIDE,), found[DIRECT])
    stand.find({"503"}, (INSIDE,), found[PROXIED])


def test_a_traffic_distribution_prefers_the_same_node(stand: Stand) -> None:
    for address in stand.services("near", trafficDistribution="PreferSameNode").values():
        stand.find({ONE}, BOTH, address, count=30)


def test_a_traffic_distribution_prefers_the_same_zone(stand: Stand) -> None:
    for node, zone in (("node1", "a"), ("node2", "b")):
        stand.cluster.kubectl("label", "node", node, f"topology.kubernetes.io/zone={zone}", "--overwrite")
    try:
        for address in stand.services("zonal", trafficDistribution="PreferSameZone").values():
            stand.find({ONE}, BOTH, address, count=30)
    finally:
        for node in ("node1", "node2"):
            stand.cluster.kubectl("label", "node", node, "topology.kubernetes.io/zone-")


def test_terminating_endpoints_serve_while_no_other_does(stand: Stand) -> None:
    """They ignore SIGTERM and stay ready, as a server that drains."""
    for number in (1, 2):
        stand.apply(server(f"leaving-{number}", f"node{number}", "leaving", terminationGracePeriodSeconds=120))
    found = stand.services("leaving", "leaving")
    for address in found.values():
        stand.find({"leaving-1", "leaving-2"}, BOTH, address)
    stand.delete("pod/leaving-2")
    for address in found.values():
        stand.find({"leaving-1"}, BOTH, address)
    stand.delete("pod/leaving-1")
    for address in found.values():
        stand.find({"leaving-1", "leaving-2"}, BOTH, address)
    stand.cluster.kubectl("-n", stand.namespace, "delete", "pod", "leaving-1", "leaving-2", "--force")


def test_a_service_without_endpoints_refuses(stand: Stand) -> None:
    found = stand.services("empty", "nothing")
    stand.find({"ECONNREFUSED"}, BOTH, found[DIRECT])
    stand.find({"ECONNREFUSED"}, (OUTSIDE,), found[PROXIED])
    stand.find({"503"}, (INSIDE,), found[PROXIED])


def test_another_port_of_a_cluster_ip_is_left_to_kube_proxy(stand: Stand) -> None:
    for address in stand.services("narrow").values():
        stand.find({"ECONNREFUSED"}, BOTH, address, 81)


def test_a_headless_service_leads_to_its_pods(stand: Stand) -> None:
    stand.apply(service("headless", clusterIP="None"))
    name = f"headless.{stand.namespace}.svc.cluster.local"
    for one in BOTH:
        stand.find({ONE, TWO}, (one,), name, PORT, count=40)


def test_an_external_name_leads_to_what_it_names(stand: Stand) -> None:
    for rung, address in stand.services("named").items():
        stand.find({ONE, TWO}, BOTH, address)
        target = f"named-{rung}.{stand.namespace}.svc.cluster.local"
        alias = {"metadata": {"name": f"alias-{rung}"}, "spec": {"type": "ExternalName", "externalName": target}}
        stand.apply({"apiVersion": "v1", "kind": "Service", **alias})
        stand.find({ONE, TWO}, BOTH, f"alias-{rung}.{stand.namespace}.svc.cluster.local")


def test_a_service_without_selector_leads_where_its_slices_say(stand: Stand) -> None:
    found = stand.services("by-hand", "")
    for rung in RUNGS:
        stand.apply(endpoint_slice(f"by-hand-{rung}-1", f"by-hand-{rung}", [{"addresses": [stand.pod_address(TWO)]}]))
    for address in found.values():
        stand.find({TWO}, BOTH, address)


def test_a_port_by_name_is_a_number_of_each_pods_own(stand: Stand) -> None:
    for number, port in ((1, 9001), (2, 9002)):
        made = server(f"apart-{number}", f"node{number}", "apart")
        container = made["spec"]["containers"][0]
        container["ports"] = [{"name": "web", "containerPort": port}]
        container["command"][2] = workloads.SERVER.replace(f'("", {PORT})', f'("", {port})')
        container["readinessProbe"]["httpGet"]["port"] = port
        stand.apply(made)
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    for address in stand.services("apart", "apart", ports=ports).values():
        stand.find({"apart-1", "apart-2"}, BOTH, address)


def test_addresses_that_are_published_although_not_ready_are_used(stand: Stand) -> None:
    made = server("early-1", "node1", "early")
    made["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = 1
    stand.cluster.kubectl("-n", stand.namespace, "apply", "-f", "-", stdin=json.dumps(made))
    for address in stand.services("early", "early", publishNotReadyAddresses=True).values():
        stand.find({"early-1"}, BOTH, address)
    late = stand.services("late", "early")
    stand.find({"ECONNREFUSED"}, BOTH, late[DIRECT])


def test_udp_ports_of_a_service_are_kube_proxys(stand: Stand) -> None:
    stand.apply(workloads.pod("datagrams", "node2", ["python3", "-c", ECHO]))
    ports = [
        {"name": "http", "port": 80, "targetPort": PORT},
        {"name": "udp", "port": 80, "targetPort": 9053, "protocol": "UDP"},
    ]
    for address in stand.services("datagrams", "datagrams", ports=ports).values():
        for one in BOTH:
            assert workloads.run(stand.cluster, stand.namespace, one, "python3", "-c", SEND, address) == "HELLO\n"


def test_a_service_that_names_another_proxy_is_left_to_it(stand: Stand) -> None:
    """As if nobody had its address."""
    found = stand.services("elsewhere")
    for rung, address in found.items():
        stand.find({ONE, TWO}, BOTH, address)
        label = {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "somebody"}}}
        stand.patch(f"service/elsewhere-{rung}", label)
        stand.find(stand.finds(OUTSIDE, "198.19.255.254", count=1), BOTH, address, count=2)


# ---- many endpoints ----


def test_every_endpoint_of_many_slices_is_used_once(stand: Stand) -> None:
    """2,400 in three slices, 200 of them twice; more that are not ready; a slice of the other address family."""
    found = stand.services("many", "")
    for rung in RUNGS:
        name = f"many-{rung}"
        listed = [f"198.18.{100 + number // 250}.{1 + number % 250}" for number in range(2400)]
        for slice_number in range(3):
            members = listed[max(0, 800 * slice_number - 100) : 800 * (slice_number + 1)]
            stand.apply(endpoint_slice(f"{name}-{slice_number}", name, [{"addresses": [one]} for one in members]))
        not_ready = [{"addresses": [f"198.18.90.{one}"], "conditions": {"ready": False}} for one in range(1, 201)]
        stand.apply(endpoint_slice(f"{name}-3", name, not_ready))
        stand.apply(endpoint_slice(f"{name}-6", name, [{"addresses": ["fd00::1"]}], kind="IPv6"))
        expected = sorted(f"{one}:{PORT}" for one in listed)
        stand.eventually(partial(agent_uses, stand, name, expected), f"2,400 endpoints of {name}")
        stand.eventually(partial(kube_proxy_uses, stand, found[rung], 2400), f"kube-proxy's endpoints of {name}")


def agent_uses(stand: Stand, name: str, expected: list[str]) -> bool:
    rows = (row for row in stand.rows("services") if row["name"] == name)
    return sorted(one for row in rows for one in row["endpoints"]) == expected


def kube_proxy_uses(stand: Stand, address: str, expected: int) -> bool:
    """So many endpoints of the Service at this address, on node 1."""
    node = stand.cluster.nodes[0].box
    rules = node.run(["nft", "list", "map", "ip", "kube-proxy", "service-ips"])
    chain = rules.partition(f"{address} . tcp . 80 : goto ")[2].partition("\n")[0].strip(" ,}")
    found = re.search(r"numgen random mod (\d+)", node.run(["nft", "list", "chain", "ip", "kube-proxy", chain]))
    return found is not None and int(found[1]) == expected


# ---- other addresses of a Service ----


def test_every_address_of_a_service_leads_to_its_endpoints(stand: Stand, doors: dict[str, Any]) -> None:
    for rung in RUNGS:
        for form, at in doors[rung].items():
            expected = {TWO} if form == "pod's address" else {ONE, TWO}
            stand.find(expected, BOTH, *at)


def test_an_external_traffic_policy_local_is_kube_proxys(stand: Stand) -> None:
    """Calls of pods count as internal and go to every endpoint.

    What comes from another node's pod it does not translate on its way back, so that here, where pods are routed, an
    endpoint on the caller's own node answers past the node that was dialled, and is not heard.
    """
    stand.services("closer", type="NodePort", externalTrafficPolicy="Local")
    for rung in RUNGS:
        port = int(stand.get(f"service/closer-{rung}", ".spec.ports[0].nodePort"))
        stand.find({ONE, TWO}, BOTH, OWN_NODE, port)
        stand.find({TWO, "timeout"}, BOTH, OTHER_NODE, port, timeout=0.4)


def test_a_pod_that_may_not_call_a_service_may_not_at_any_of_its_addresses(stand: Stand, doors: dict[str, Any]) -> None:
    stand.apply(denying("nobody", ["doors-direct", "doors-proxied"]))
    try:
        for rung in RUNGS:
            for at in doors[rung].values():
                stand.find({"EPERM"}, (INSIDE,), *at)
        stand.apply(service("doors-headless", clusterIP="None"))
        stand.find({"EPERM"}, (INSIDE,), f"doors-headless.{stand.namespace}.svc.cluster.local", PORT)
    finally:
        stand.delete("authorizationpolicy/nobody")
    stand.find({ONE, TWO}, (INSIDE,), *doors[DIRECT]["cluster IP"])


def test_a_path_that_is_denied_is_denied_at_every_address(stand: Stand, doors: dict[str, Any]) -> None:
    """What is served beside may all come from one endpoint: kube-proxy chooses for connections that the proxy keeps."""
    stand.apply(denying("no-secrets", ["doors-direct", "doors-proxied"], path="/secret"))
    try:
        for rung in RUNGS:
            for at in doors[rung].values():
                stand.find({"403"}, (INSIDE,), *at, path="/secret")
                assert stand.finds(INSIDE, *at, path="/public") <= {ONE, TWO}
    finally:
        stand.delete("authorizationpolicy/no-secrets")


def test_a_policy_for_a_headless_service_protects_its_pods(stand: Stand) -> None:
    stand.apply(server("alone-1", "node2", "alone"), service("alone", "alone", clusterIP="None"))
    stand.apply(denying("not-alone", ["alone"]))
    stand.find({"EPERM"}, (INSIDE,), f"alone.{stand.namespace}.svc.cluster.local", PORT)


def test_a_route_for_a_headless_service_says_that_it_does_nothing(stand: Stand) -> None:
    stand.apply(service("no-front", clusterIP="None"))
    spec = {"parentRefs": [{"group": "", "kind": "Service", "name": "no-front"}]}
    stand.apply(
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "idle"}, "spec": spec}
    )
    path = '.status.parents[0].conditions[?(@.type=="Accepted")]'
    stand.eventually(lambda: stand.get("httproute/idle", f"{path}.status") == "False", "a condition of the route")
    assert "no cluster IP" in stand.get("httproute/idle", f"{path}.message")
